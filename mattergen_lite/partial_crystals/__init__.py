"""Templates, elements and fixed sites of samples, chosen before any noise.

    partial_crystal_sampler(parse_constraints(Request(formula="LiFePO4")), model.config).draw(rng)

A sample takes the template of a known crystal: its space group, orbits and stoichiometry, not its
elements, free coordinates or cell. In a host, orbits are added to those of the fixed sites.
"""
