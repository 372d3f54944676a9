"""Phonons: a formula, another code, crystals known to be stable or not, reasons not crashes."""

import importlib.util
from dataclasses import dataclass

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.phonons import Phonons as AsePhonons
from ase.units import _amu, _e
from crystals import nacl, nacl_primitive, perovskite, single_atom, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring import checking
from mattergen_lite.scoring.energy import phonons as module
from mattergen_lite.scoring.energy.phonons import DISPLACEMENT, phonons
from mattergen_lite.scoring.energy.potentials.base import AsePotential, SinglePoint
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax

WELL, DISTANCE, STIFFNESS = 0.4, 2.6, 5.0  # eV, Å, dimensionless
COPPER = 63.546  # amu
THZ = np.sqrt(_e / _amu * 1e20) / (2 * np.pi) * 1e-12  # of √(eV/Å²/amu)


@pytest.fixture
def nearest_neighbours():
    """A Morse potential that ends before the second shell of an fcc crystal."""
    cutoffs = {"rcut1": 1.25, "rcut2": 1.35}  # in units of r0
    calculator = MorsePotential(epsilon=WELL, r0=DISTANCE, rho0=STIFFNESS, **cutoffs)
    return AsePotential("morse", calculator, frozenset({"Cu"}))


@pytest.fixture
def emt():
    return AsePotential("emt", EMT(), frozenset({"Cu"}))


@pytest.mark.parametrize(("displacement", "tolerance"), [(0.01, 0.002), (DISPLACEMENT, 0.01)])
def test_springs_between_nearest_neighbours_follow_the_formula(
    nearest_neighbours, displacement, tolerance
):
    found = phonons(single_atom(), nearest_neighbours, displacement=displacement)
    # fcc, springs k = φ'' = 2 ε ρ²/r²: the longitudinal mode at X and L has m ω² = 8 k.
    k = 2 * WELL * STIFFNESS**2 / DISTANCE**2
    assert found.phonon_error is None
    assert found.max_frequency == pytest.approx(np.sqrt(8 * k / COPPER) * THZ, rel=tolerance)
    assert found.dynamically_stable
    assert found.num_imaginary_modes == 0


def test_emt_copper_agrees_with_ase(emt, tmp_path):
    found = phonons(single_atom(), emt, displacement=0.01)
    assert found.phonon_supercell == "4x4x4 cells of 1 atoms"
    copper = relax(single_atom(), emt, module.TIGHT).structure.to_ase_atoms(msonable=False)
    theirs = AsePhonons(copper, EMT(), supercell=(4, 4, 4), delta=0.01, name=tmp_path / "phonon")
    theirs.run()
    theirs.read(acoustic=True)
    steps = np.arange(4) / 4
    wave_vectors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    energies = np.sort(theirs.band_structure(wave_vectors[1:], verbose=False).ravel())  # eV
    frequencies = energies * _e / 6.62607015e-34 * 1e-12
    assert found.min_frequency == pytest.approx(frequencies[0], rel=0.01)
    assert found.max_frequency == pytest.approx(frequencies[-1], rel=0.005)
    assert found.num_modes == 3 * 64 - 3


def test_rock_salt_is_stable_in_either_cell():
    chgnet = load_potential("chgnet")
    small, large = (phonons(crystal, chgnet) for crystal in (nacl_primitive(), nacl()))
    assert small.dynamically_stable
    assert large.dynamically_stable
    assert small.min_frequency == pytest.approx(large.min_frequency, rel=0.02)
    assert small.max_frequency == pytest.approx(large.max_frequency, rel=0.02)
    assert small.phonon_supercell == large.phonon_supercell == "2x2x2 cells of 8 atoms"
    assert small.num_modes == 3 * 64 - 3
    assert small.num_displacements == 2
    # Experiment: LO at Gamma 7.9 THz, not reached without Born charges; TO 4.9 THz.
    assert 3.5 < small.max_frequency < 8


def test_cubic_barium_titanate_is_unstable():
    cubic = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.01), ["Ba", "Ti", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]]
    )
    found = phonons(cubic, load_potential("chgnet"))
    assert found.dynamically_stable is False
    assert found.min_frequency < -3  # ferroelectric
    assert found.num_imaginary_modes >= 3


def test_strontium_titanate_tilts_at_the_corner_of_the_zone():
    """The R point doubles the cell along all axes: odd supercells miss it."""
    found = phonons(perovskite(), load_potential("chgnet"))
    assert found.dynamically_stable is False
    assert found.phonon_supercell == "2x2x2 cells of 5 atoms"


def test_body_centred_lennard_jones_argon_is_unstable():
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=10.2)
    argon = Structure.from_spacegroup("Im-3m", Lattice.cubic(4.2), ["Ar"], [[0, 0, 0]])
    found = phonons(argon, AsePotential("lennard-jones", calculator, frozenset({"Ar"})))
    assert found.dynamically_stable is False
    assert found.min_frequency < -0.3


def test_tolerance_decides_what_counts(nearest_neighbours):
    found = phonons(single_atom(), nearest_neighbours, tolerance=-100.0)
    assert found.num_imaginary_modes == found.num_modes
    assert found.dynamically_stable is False


def test_unit_cells_of_any_shape_get_a_supercell_with_room():
    cell, multiples = module._supercell(triclinic())
    heights = np.array(
        [
            cell.lattice.volume / np.linalg.norm(np.cross(*pair))
            for pair in (
                cell.lattice.matrix[[1, 2]],
                cell.lattice.matrix[[2, 0]],
                cell.lattice.matrix[[0, 1]],
            )
        ]
    )
    assert (heights * multiples >= module.MIN_LENGTH).all()
    assert all(multiple % 2 == 0 for multiple in multiples)


def test_where_even_multiples_are_too_many_the_smallest_will_do(monkeypatch):
    monkeypatch.setattr(module, "MAX_SUPERCELL_ATOMS", 50)
    cubic = Structure(Lattice.cubic(7.6), ["Na"] * 9, np.random.default_rng(0).random((9, 3)))
    assert module._supercell(cubic)[1] == (1, 1, 1)


# Failures


@dataclass(frozen=True)
class Rigged:
    """A potential with constant forces."""

    force: float = 0.0  # eV/Å
    name: str = "rigged"
    supported_elements: frozenset[str] = frozenset({"Na", "Cl"})

    def energy(self, atoms):
        return 0.0

    def single_points(self, batch):
        return [
            SinglePoint(
                energy=0.0,
                forces=np.full((len(atoms), 3), self.force if len(atoms) > 8 else 0.0),
                stress=np.zeros((3, 3)),
            )
            for atoms in batch
        ]

    def correction(self, structure):
        return 0.0


def test_crystal_that_is_too_large_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "MAX_SUPERCELL_ATOMS", 10)
    found = phonons(nacl(), Rigged())
    assert found.phonon_error == ("rigged: a supercell of 7.5 Å has 54 atoms: expected at most 10")
    assert found.dynamically_stable is None


def test_forces_that_are_no_numbers_are_an_error():
    assert "not finite" in phonons(nacl(), Rigged(force=np.nan)).phonon_error


def test_crystal_that_does_not_relax_is_an_error():
    found = phonons(
        triclinic(), load_potential("chgnet"), limits=module.RelaxationLimits(max_steps=1)
    )
    assert "not relaxed after 1 steps" in found.phonon_error


def test_unsupported_element_is_an_error_not_a_crash(emt):
    assert phonons(nacl(), emt).phonon_error.startswith("emt: Cl, Na unsupported by emt")


def test_without_phonopy_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"\.\[phonons\]"):
        phonons(nacl(), Rigged())
    assert importlib.util.find_spec("phonopy") is not None
