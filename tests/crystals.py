"""Named crystals shared by all tests, as pymatgen structures with known answers."""

from pymatgen.core import Element, Lattice, Structure


def nacl() -> Structure:
    """Rock salt, conventional cell of 8 atoms, Fm-3m (225)."""
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def nacl_primitive() -> Structure:
    """Rock salt, primitive cell of 2 atoms, Fm-3m (225)."""
    lattice = Lattice([[0, 2.845, 2.845], [2.845, 0, 2.845], [2.845, 2.845, 0]])
    return Structure(lattice, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def rutile() -> Structure:
    """TiO2, 6 atoms, P4_2/mnm (136)."""
    return Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def perovskite() -> Structure:
    """SrTiO3, 5 atoms, Pm-3m (221)."""
    return Structure.from_spacegroup(
        "Pm-3m",
        Lattice.cubic(3.905),
        ["Sr", "Ti", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]],
    )


def quartz() -> Structure:
    """Alpha quartz SiO2, 9 atoms, P3_221 (154): chiral, so a mirror image is another crystal."""
    return Structure.from_spacegroup(
        "P3_221",
        Lattice.hexagonal(4.913, 5.405),
        ["Si", "O"],
        [[0.4697, 0, 2 / 3], [0.4133, 0.2672, 0.7855]],
    )


def li3ps4() -> Structure:
    """Li3PS4 (mp-2646995), body-centred primitive cell of 8 atoms, I-42m (121)."""
    lattice = Lattice([[5.03963, 0, 2.42157], [-1.16358, 4.90347, 2.42157], [0, 0, 6.45488]])
    sulfur = [
        [0.670174, 0.096232, 0.233595],
        [0.096232, 0.670174, 0.233595],
        [0.329826, 0.329826, 0.766405],
        [0.903768, 0.903768, 0.766405],
    ]
    cations = [[0.5, 0.5, 0], [0.75, 0.25, 0.5], [0.25, 0.75, 0.5], [0, 0, 0]]
    return Structure(lattice, [*["Li"] * 3, "P", *["S"] * 4], [*cations, *sulfur])


def triclinic() -> Structure:
    """Four different atoms in a skewed cell, P1 (1): exposes every row/column mix-up."""
    lattice = Lattice.from_parameters(4.1, 5.3, 6.7, 72.0, 81.0, 97.0)
    coords = [[0.03, 0.07, 0.11], [0.52, 0.41, 0.33], [0.23, 0.77, 0.61], [0.81, 0.29, 0.87]]
    return Structure(lattice, ["Li", "P", "S", "O"], coords)


def single_atom() -> Structure:
    """Copper, primitive cell of 1 atom, Fm-3m (225)."""
    return Structure(
        Lattice([[0, 1.81, 1.81], [1.81, 0, 1.81], [1.81, 1.81, 0]]), ["Cu"], [[0, 0, 0]]
    )


def simple_compounds() -> list[Structure]:
    """36 different rock salts: alkali halides and alkaline-earth chalcogenides, 2 atoms each."""
    pairs = [(a, x) for a in ("Li", "Na", "K", "Rb", "Cs") for x in ("F", "Cl", "Br", "I")]
    pairs += [(a, x) for a in ("Mg", "Ca", "Sr", "Ba") for x in ("O", "S", "Se", "Te")]
    salts = []
    for cation, anion in pairs:
        salt = nacl_primitive().replace_species({"Na": cation, "Cl": anion}, in_place=False)
        radii = sum(Element(symbol).atomic_radius for symbol in (cation, anion))
        salts.append(salt.scale_lattice(salt.volume * (radii / 2.8) ** 3))
    return salts


def cubic_lead_titanate() -> Structure:
    """PbTiO3 at high temperature; P4mm below 763 K (Shirane & Hoshino, J. Phys. Soc. Jpn. 1951)."""
    cubic = perovskite().replace_species({"Sr": "Pb"}, in_place=False)
    return cubic.scale_lattice(63.0)
