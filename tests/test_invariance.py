"""What is said of a crystal depends on neither order of atoms, origin, cell nor hand.

A crystal is the same set of points whatever describes it, and its mirror image has the same
distances. Every function of a crystal must say the same of all, energies per atom included.
"""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from crystals import li3ps4, nacl, perovskite, quartz, rutile
from pymatgen.core import Lattice, Structure

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.candidate import is_physical
from mattergen_lite.scoring.criteria.credibility import credibility
from mattergen_lite.scoring.criteria.disorder import shared_sites
from mattergen_lite.scoring.criteria.neutrality import neutrality
from mattergen_lite.scoring.criteria.symmetry import achiral, symmetry
from mattergen_lite.scoring.criteria.validity import validity
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.hull import reference_hull
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.score import score

SYMPREC = 0.01  # Å


def palladium_hydride() -> Structure:
    """Palladium and hydrogen, whose electronegativities are equal, in rock salt."""
    return nacl().replace_species({"Na": "Pd", "Cl": "H"}).scale_lattice(4.09**3)


def salt_with_argon() -> Structure:
    """Rock salt's primitive atoms with argon, which has no electronegativity, in half-Heusler."""
    cell = Lattice.cubic(6.6)
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]
    return Structure.from_spacegroup("F-43m", cell, ["Na", "Cl", "Ar"], places)


def silicon_copper() -> Structure:
    """Silicon and copper, whose electronegativities are equal, in zinc blende."""
    cell = Lattice.cubic(5.4)
    return Structure.from_spacegroup("F-43m", cell, ["Si", "Cu"], [[0, 0, 0], [0.25, 0.25, 0.25]])


def two_dimensional() -> Structure:
    """2H-MoS2 (Bronsema et al., Z. Anorg. Allg. Chem. 1986, 540, 15): layers with a gap."""
    cell = Lattice.hexagonal(3.160, 12.294)
    places = [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]]
    return Structure.from_spacegroup("P6_3/mmc", cell, ["Mo", "S"], places)


def low_symmetry() -> Structure:
    """A crystal of mixed anions without symmetry."""
    cell = Lattice.from_parameters(5.2, 5.9, 6.7, 82, 95, 103)
    places = [[0, 0, 0], [0.48, 0.51, 0.1], [0.3, 0.1, 0.52], [0.8, 0.6, 0.55], [0.55, 0.05, 0.2]]
    return Structure(cell, ["Ba", "Ti", "O", "O", "S"], places)


CRYSTALS = [
    nacl,
    palladium_hydride,
    salt_with_argon,
    silicon_copper,
    quartz,
    rutile,
    perovskite,
    li3ps4,
    two_dimensional,
    low_symmetry,
]


def permuted(crystal: Structure, rng: np.random.Generator) -> Structure:
    return Structure.from_sites([crystal[i] for i in rng.permutation(len(crystal))])


def reversed_order(crystal: Structure, rng: np.random.Generator) -> Structure:
    return Structure.from_sites(list(crystal)[::-1])


def translated(crystal: Structure, rng: np.random.Generator) -> Structure:
    return crystal.copy().translate_sites(range(len(crystal)), rng.uniform(-2, 2, 3))


def supercell(crystal: Structure, rng: np.random.Generator) -> Structure:
    sizes = [1, 1, 1]
    sizes[rng.integers(3)] = 2
    return crystal.copy().make_supercell(sizes)


def other_cell(crystal: Structure, rng: np.random.Generator) -> Structure:
    """The lattice in other vectors: whole combinations whose determinant is one."""
    lower, upper = np.eye(3, dtype=int), np.eye(3, dtype=int)
    lower[np.tril_indices(3, -1)] = rng.integers(-2, 3, 3)
    upper[np.triu_indices(3, 1)] = rng.integers(-1, 2, 3)
    return crystal.copy().make_supercell(lower @ upper)


def mirrored(crystal: Structure, rng: np.random.Generator) -> Structure:
    lattice = Lattice(crystal.lattice.matrix * [-1, 1, 1])
    return Structure(lattice, crystal.species, crystal.frac_coords)


DISGUISES = [permuted, reversed_order, translated, supercell, other_cell, mirrored]
EXTENSIVE = {"min_angle", "max_angle"}  # of the cell as given


@pytest.fixture(params=CRYSTALS, ids=lambda make: make.__name__)
def crystal(request) -> Structure:
    return request.param()


@pytest.fixture(params=DISGUISES, ids=lambda disguise: disguise.__name__)
def disguise(request) -> Callable[[Structure, np.random.Generator], Structure]:
    return request.param


@pytest.fixture
def disguised(crystal, disguise) -> Structure:
    return disguise(crystal, np.random.default_rng(len(crystal)))


def test_geometry(crystal, disguised):
    one, other = asdict(validity(crystal)), asdict(validity(disguised))
    for name in one.keys() - EXTENSIVE:
        expected = one[name]
        if isinstance(expected, float):
            assert other[name] == pytest.approx(expected, abs=1e-6), name
        else:
            assert other[name] == expected, name


def test_symmetry(crystal, disguised):
    one, other = (symmetry(structure, symprec=SYMPREC) for structure in (crystal, disguised))
    assert achiral(other.space_group) == achiral(one.space_group)
    assert other.point_group == one.point_group
    assert other.crystal_system == one.crystal_system
    assert other.num_atoms_primitive == one.num_atoms_primitive
    assert other.num_atoms_conventional == one.num_atoms_conventional


def test_charges(crystal, disguised):
    one, other = neutrality(crystal), neutrality(disguised)
    assert other.is_neutral == one.is_neutral
    assert other.charge_verdict == one.charge_verdict
    assert set(other.oxidation_states.split()) == set(one.oxidation_states.split())
    assert other.composition_valid == one.composition_valid


def test_disorder(crystal, disguised):
    one, other = (shared_sites(structure, symprec=SYMPREC) for structure in (crystal, disguised))
    assert (one is None) == (other is None)
    if one is not None:
        assert other.groups == one.groups
        assert achiral(other.space_group) == achiral(one.space_group)


def test_credibility(crystal, disguised):
    one, other = (credibility(structure, symprec=SYMPREC) for structure in (crystal, disguised))
    assert set(other.flags) == set(one.flags)
    assert other.hhi_production == pytest.approx(one.hhi_production)
    assert other.rarest_abundance == one.rarest_abundance
    assert other.smallest_element_fraction == pytest.approx(one.smallest_element_fraction)


def test_decomposition(crystal, disguised):
    one, other = (reference_hull().decompose(s.composition) for s in (crystal, disguised))
    assert other.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-9)
    assert {name for name, _ in other.products} == {name for name, _ in one.products}


def test_energy_corrections(crystal, disguised):
    one, other = (mp2020_correction(one) / len(one) for one in (crystal, disguised))
    assert other == pytest.approx(one, abs=1e-9)


@pytest.mark.parametrize("make", [palladium_hydride, quartz, low_symmetry])
def test_energies_of_a_potential(make, disguise):
    potential, crystal = load_potential("chgnet"), make()
    other = disguise(crystal, np.random.default_rng(1))
    energies = [potential.energy(one.to_ase_atoms()) / len(one) for one in (crystal, other)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-4)  # eV/atom, single precision


def test_novelty_and_verdict():
    """Every disguise of a crystal in one batch: one of them is unique, all are known alike."""
    rng = np.random.default_rng(5)
    known = [quartz(), palladium_hydride(), salt_with_argon()]
    records = [StructureRecord(f"known-{index}", one) for index, one in enumerate(known)]
    reference = Reference.from_records(records, name="known")
    batch = [
        StructureRecord(f"{make.__name__}-{index}", turn(make(), rng))
        for make in CRYSTALS
        for index, turn in enumerate([*DISGUISES, permuted])
    ]
    with Pool(0) as pool:
        scores = score(batch, result_cache=ResultCache(pool, progress=False), reference=reference)
    for make in CRYSTALS:
        own = [one for one in scores if one.name.startswith(f"{make.__name__}-")]
        assert [one.novelty.is_unique for one in own] == [True] + [False] * (len(own) - 1)
        assert len({(one.novelty.nearest_known, one.novelty.is_novel) for one in own}) == 1
        assert len({(is_physical(one), one.error) for one in own}) == 1
        distances = [one.novelty.rms_distance or 0.0 for one in own]
        assert max(distances) - min(distances) < 1e-4
