"""Tensors of crystals: batches, mathematics of the torus and the lattice, shapes."""
