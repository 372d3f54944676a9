"""Interatomic potentials of many makers behind one protocol, and the test that each has to pass."""
