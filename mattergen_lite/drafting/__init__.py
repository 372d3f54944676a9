"""Templates, elements and fixed sites of samples, chosen before any noise.

    draft_source(parse_constraints(Request(formula="LiFePO4")), model.config).draw(rng)

A sample takes the template of a known crystal: its space group, orbits and stoichiometry, not its
elements, free coordinates or cell. Templates come as often as known crystals near the hull have
them. Elements that must occur are put on whole classes of orbits, where similar elements are in the
known crystal. Without prescribed symmetry every atom is an orbit of its own; in a host, orbits are
added to those of the fixed sites.
"""
