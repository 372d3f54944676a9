"""Figures of a whole set of crystals."""
