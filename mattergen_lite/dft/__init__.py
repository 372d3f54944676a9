"""First principles: PBE energies of candidates and of the known phases that balance them."""
