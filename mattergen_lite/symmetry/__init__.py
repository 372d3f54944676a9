"""Symmetry as the coordinate system: space groups, orbits of atoms, free coordinates and cells."""
