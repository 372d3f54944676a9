"""Structure files as text -> checked pymatgen structures; every reader names what it refuses."""
