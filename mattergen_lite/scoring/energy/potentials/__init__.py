"""Interatomic potentials of many makers behind one protocol, and the exam that each has to pass."""
