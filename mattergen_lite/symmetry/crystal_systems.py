"""The seven crystal systems and their space groups."""

# Last space group number of each crystal system.
LAST_SPACE_GROUP = {
    "triclinic": 2,
    "monoclinic": 15,
    "orthorhombic": 74,
    "tetragonal": 142,
    "trigonal": 167,
    "hexagonal": 194,
    "cubic": 230,
}
CRYSTAL_SYSTEMS = tuple(LAST_SPACE_GROUP)


def space_groups_of(system: str) -> range:
    """Numbers of the space groups of a crystal system."""
    ends = [0, *LAST_SPACE_GROUP.values()]
    place = CRYSTAL_SYSTEMS.index(system)
    return range(ends[place] + 1, ends[place + 1] + 1)
