"""Potentials, and all that needs one."""
