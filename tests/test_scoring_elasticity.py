"""Bulk moduli: a formula, a numerical derivative, experiments, and reasons instead of crashes."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from crystals import nacl, nacl_primitive, quartz, single_atom
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.energy.elasticity import bulk_modulus
from mattergen_lite.scoring.energy.potentials.base import AsePotential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import GPA, RelaxationLimits, relax

WELL, DISTANCE, STIFFNESS = 0.4, 2.6, 5.0  # eV, Å, dimensionless


@pytest.fixture
def nearest_neighbours():
    """A Morse potential that ends before the second shell of an fcc crystal."""
    cutoffs = {"rcut1": 1.25, "rcut2": 1.35}  # in units of r0
    calculator = MorsePotential(epsilon=WELL, r0=DISTANCE, rho0=STIFFNESS, **cutoffs)
    return AsePotential("morse", calculator, frozenset({"Cu"}))


@pytest.fixture
def emt():
    return AsePotential("emt", EMT(), frozenset({"Cu"}))


def fcc(distance):
    """Copper with that distance between neighbours."""
    half = distance / 2**0.5
    return Structure([[0, half, half], [half, 0, half], [half, half, 0]], ["Cu"], [[0] * 3])


def test_springs_between_nearest_neighbours_follow_the_formula(nearest_neighbours):
    elasticity = bulk_modulus(fcc(DISTANCE), nearest_neighbours)
    # Energy 6 φ(r) and volume r³/√2 an atom: B = V d²E/dV² = (2√2/3) φ''/r with φ'' = 2 ε ρ²/r².
    expected = 2 * 2**0.5 / 3 * (2 * WELL * STIFFNESS**2 / DISTANCE**2) / DISTANCE * GPA
    assert elasticity.elasticity_error is None
    assert elasticity.bulk_modulus == pytest.approx(expected, rel=0.01)
    assert elasticity.equilibrium_volume == pytest.approx(DISTANCE**3 / 2**0.5, rel=1e-3)


def test_emt_copper_agrees_with_the_slope_of_its_pressure(emt):
    copper = relax(single_atom(), emt, RelaxationLimits(max_stress=1e-4)).structure

    def pressure(volume_ratio):
        atoms = copper.to_ase_atoms(msonable=False)
        atoms.set_cell(atoms.cell.array * volume_ratio ** (1 / 3), scale_atoms=True)
        (point,) = emt.single_points([atoms])
        return -np.trace(point.stress) / 3

    slope = (pressure(1.001) - pressure(0.999)) / 0.002
    elasticity = bulk_modulus(copper, emt)
    assert elasticity.bulk_modulus == pytest.approx(-slope * GPA, rel=0.02)
    assert elasticity.equilibrium_volume == pytest.approx(copper.volume, rel=2e-3)
    assert elasticity.elasticity_potential == "emt"


def test_modulus_is_a_property_of_the_crystal_not_of_its_cell():
    chgnet = load_potential("chgnet")
    small, large = (bulk_modulus(crystal, chgnet) for crystal in (nacl_primitive(), nacl()))
    assert small.bulk_modulus == pytest.approx(large.bulk_modulus, rel=0.01)
    assert 4 * small.equilibrium_volume == pytest.approx(large.equilibrium_volume, rel=1e-3)
    assert small.eos_residual == pytest.approx(large.eos_residual, abs=1e-5)


@pytest.mark.parametrize(
    ("crystal", "experiment"),  # GPa at room temperature: Kittel's table 3.3, CRC Handbook
    [
        (nacl_primitive(), 24.0),
        (Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0] * 3]), 98.8),
        (
            Structure.from_spacegroup(
                "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0] * 3, [0.5] * 3]
            ),
            160.0,
        ),
        (single_atom(), 137.0),
    ],
    ids=["NaCl", "Si", "MgO", "Cu"],
)
def test_chgnet_is_near_experiment(crystal, experiment):
    chgnet = load_potential("chgnet")
    elasticity = bulk_modulus(relax(crystal, chgnet).structure, chgnet)
    assert elasticity.bulk_modulus == pytest.approx(experiment, rel=0.25)


def test_atoms_that_may_move_soften_a_crystal():
    chgnet = load_potential("chgnet")
    crystal = relax(quartz(), chgnet).structure
    clamped = bulk_modulus(crystal, chgnet, relax_positions=False)
    assert bulk_modulus(crystal, chgnet).bulk_modulus < 0.5 * clamped.bulk_modulus


def test_input_stays_as_it_is(emt):
    crystal = fcc(2.55)
    before = crystal.copy()
    bulk_modulus(crystal, emt)
    assert crystal == before


@dataclass(frozen=True)
class Rigged:
    """A potential whose energy is any function of the volume of the cell in Å³."""

    energy_of_volume: object
    name: str = "rigged"
    supported_elements: frozenset[str] = frozenset({"Cu"})

    def energy(self, atoms):
        return float(self.energy_of_volume(atoms.get_volume()))

    def single_points(self, batch):
        raise NotImplementedError

    def correction(self, structure):
        return 0.0


@pytest.mark.parametrize(
    ("energy_of_volume", "reason"),
    [
        (lambda volume: np.nan, "not finite"),
        # A straight line: whether its fitted curvature is a little above zero is rounding.
        (lambda volume: volume, "bulk modulus|no equation of state"),
        (lambda volume: -((volume - 11.86) ** 2), "no energy minimum"),
        (lambda volume: (volume - 20) ** 2, "no energy minimum"),
        (lambda volume: (volume - 9) ** 2, "no equation of state: The minimum"),
        (lambda volume: np.cos(20 * volume) + 0.1 * (volume - 11.86) ** 2, "equation of state"),
        (lambda volume: 1 / 0, "division"),
    ],
)
def test_bad_curves_are_errors_with_a_reason(energy_of_volume, reason):
    elasticity = bulk_modulus(single_atom(), Rigged(energy_of_volume), relax_positions=False)
    assert elasticity.elasticity_error.startswith("rigged: ")
    assert re.search(reason, elasticity.elasticity_error)
    assert np.isnan(elasticity.bulk_modulus)


def test_unsupported_element_is_an_error_not_a_crash(emt):
    elasticity = bulk_modulus(nacl(), replace(emt, name="copper only"))
    assert elasticity.elasticity_error.startswith("copper only: Cl, Na unsupported")
