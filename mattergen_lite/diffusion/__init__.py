"""The noise process: one shared noise level, three channels (atom types, coordinates, lattice)."""
