"""Relaxation: known minima, and reasons instead of crashes."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from crystals import cubic_lead_titanate, nacl_primitive, perovskite, quartz, rutile, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED, space_group_of
from mattergen_lite.scoring.energy.potentials.base import AsePotential, SinglePoint
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import (
    MIN_ENERGY_FALL,
    RelaxationLimits,
    relax,
    relax_stream,
)
from mattergen_lite.scoring.energy.symmetry_breaking import (
    MIN_DISTORTION_FALL,
    is_worth_releasing,
    rattled,
    release,
)

SIGMA, EPSILON = 3.4, 0.0104  # Å, eV: argon
TIGHT = RelaxationLimits(max_force=1e-4, max_stress=1e-3, max_steps=500)


@pytest.fixture
def lennard_jones():
    calculator = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=4 * SIGMA)
    return AsePotential("lennard-jones", calculator, frozenset({"Ar"}))


def argon(scale=1.0):
    half = 2.65 * scale
    return Structure(
        Lattice([[0, half, half], [half, 0, half], [half, half, 0]]), ["Ar"], [[0] * 3]
    )


@pytest.mark.parametrize("scale", [0.95, 1.06])
def test_argon_finds_its_lattice_constant(lennard_jones, scale):
    relaxation = relax(argon(scale), lennard_jones, TIGHT)
    lattice_constant = 2**0.5 * relaxation.structure.lattice.a
    # Sum of the fcc lattice: a = 1.5418 σ, -8.61 ε per atom (Ashcroft & Mermin, chapter 20).
    assert relaxation.converged
    assert lattice_constant == pytest.approx(1.5418 * SIGMA, rel=3e-3)
    assert relaxation.energy_per_atom == pytest.approx(-8.61 * EPSILON, rel=0.05)
    assert relaxation.volume_change == pytest.approx(
        relaxation.structure.volume / argon(scale).volume - 1
    )


def test_sheared_argon_becomes_cubic_again(lennard_jones):
    sheared = argon()
    matrix = sheared.lattice.matrix @ np.array([[1, 0.05, 0.02], [0, 1.03, 0.04], [0, 0, 0.97]])
    relaxation = relax(Structure(matrix, ["Ar"], [[0, 0, 0]]), lennard_jones, TIGHT)
    assert np.ptp(relaxation.structure.lattice.abc) < 0.01
    assert relaxation.structure.lattice.angles == pytest.approx((60, 60, 60), abs=0.2)


def test_perturbed_quartz_returns_in_forces_and_stress():
    chgnet = load_potential("chgnet")
    ideal = relax(quartz(), chgnet)
    perturbed = quartz().perturb(0.1, seed=0)
    relaxation = relax(perturbed.apply_strain(0.03), chgnet)
    assert relaxation.converged
    assert relaxation.max_force <= 0.05
    assert relaxation.max_stress <= 0.5
    assert relaxation.energy_per_atom == pytest.approx(ideal.energy_per_atom, abs=3e-3)
    assert 0.03 < relaxation.rmsd < 0.3
    assert relaxation.volume_change < 0  # soft here: volumes 2% apart differ by 1 meV/atom


def test_relaxed_input_takes_no_step_and_does_not_move():
    chgnet = load_potential("chgnet")
    first = relax(nacl_primitive(), chgnet)
    again = relax(first.structure, chgnet)
    assert again.num_steps == 0
    assert again.rmsd == pytest.approx(0, abs=1e-9)


def test_running_out_of_steps_is_not_converged():
    relaxation = relax(triclinic(), load_potential("chgnet"), RelaxationLimits(max_steps=2))
    assert not relaxation.converged
    assert relaxation.error is None
    assert relaxation.num_steps == 2


def test_unsupported_element_is_an_error_not_a_crash():
    radon = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])
    relaxation = relax(radon, load_potential("chgnet"))
    assert relaxation.error == "chgnet: Rn unsupported by chgnet: expected its 89 elements"
    assert relaxation.structure is None


@dataclass(frozen=True)
class Rigged:
    """A potential that pushes with a constant pressure, or fails."""

    pressure: float = 0.0  # eV/Å³
    energy_per_volume: float = 0.0
    name: str = "rigged"
    supported_elements: frozenset[str] = frozenset({"Na", "Cl"})

    def energy(self, atoms):
        return self.energy_per_volume * atoms.get_volume()

    def single_points(self, batch):
        return [
            SinglePoint(
                energy=self.energy(atoms),
                forces=np.zeros((len(atoms), 3)),
                stress=-self.pressure * np.eye(3),
            )
            for atoms in batch
        ]

    def correction(self, structure):
        return 0.0


@pytest.mark.parametrize(
    ("potential", "reason"),
    [
        (Rigged(energy_per_volume=np.nan), "stress are not finite"),
        (Rigged(pressure=0.5), r"the volume is 3\.\d+ times"),
        (Rigged(pressure=-0.5), r"the volume is 0\.\d+ times"),
        (Rigged(pressure=0.5, energy_per_volume=0.1), "the energy rises along the forces"),
    ],
)
def test_hopeless_relaxations_are_given_up_with_a_reason(potential, reason):
    relaxation = relax(nacl_primitive(), potential, RelaxationLimits(max_steps=500))
    assert relaxation.structure is None
    assert relaxation.error.startswith("rigged: relaxation given up after")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(relaxation.error)


def test_batch_gives_the_same_as_one_by_one_and_loses_only_the_broken():
    chgnet = load_potential("chgnet")
    overlapping = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    radon = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])
    crystals = [triclinic(), overlapping, nacl_primitive(), radon, nacl_primitive()]
    limits = RelaxationLimits(max_steps=5)
    results = dict(relax_stream(crystals, chgnet, limits, batch_size=3))
    together = [results[i] for i in range(len(crystals))]
    for structure, one in zip(crystals, together, strict=True):
        alone = relax(structure, chgnet, limits)
        assert one.error == alone.error
        assert one.num_steps == alone.num_steps
        assert one.energy_per_atom == pytest.approx(alone.energy_per_atom, abs=1e-3, nan_ok=True)
    assert "coincide" in together[1].error
    assert "Rn unsupported" in together[3].error


@dataclass(frozen=True)
class Forgetful(Rigged):
    """A potential that runs out of memory on more than two crystals at once."""

    def single_points(self, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().single_points(batch)


def test_batch_that_does_not_fit_into_memory_is_halved():
    relaxations = relax_stream([nacl_primitive()] * 7, Forgetful())
    assert [relaxation.error for _, relaxation in relaxations] == [None] * 7


# With symmetry


def hafnium_phosphide(noise=0.02):
    rock_salt = nacl_primitive().replace_species({"Na": "Hf", "Cl": "P"}, in_place=False)
    return rock_salt.scale_lattice(39.0).perturb(noise, seed=0)


def test_perturbed_rock_salt_stays_rock_salt_at_the_energy_of_the_free_relaxation():
    chgnet = load_potential("chgnet")
    free = relax(hafnium_phosphide(), chgnet)
    kept = relax(hafnium_phosphide(), chgnet, symprec=SYMPREC_GENERATED)
    assert space_group_of(free.structure, 1e-3) != 225  # what is lost without
    assert kept.constrained_space_group == 225
    assert space_group_of(kept.structure, 1e-5) == 225
    assert kept.energy_per_atom < free.energy_per_atom + MIN_ENERGY_FALL
    assert kept.num_steps <= free.num_steps
    assert kept.rmsd > 0.005  # the way from where the atoms were given, not from the exact crystal


@pytest.mark.parametrize("make", [rutile, quartz, perovskite])
def test_symmetric_crystals_stay_symmetric_and_reach_the_free_minimum(make):
    chgnet, strained = load_potential("chgnet"), make().apply_strain(0.03).perturb(0.02, seed=1)
    kept = relax(strained, chgnet, symprec=SYMPREC_GENERATED)
    assert kept.converged
    assert space_group_of(kept.structure, 1e-6) == space_group_of(make(), 1e-3)
    free = relax(strained, chgnet)
    assert kept.energy_per_atom == pytest.approx(free.energy_per_atom, abs=3e-3)
    assert kept.volume_change == pytest.approx(free.volume_change, abs=0.02)


def test_supercells_relax_as_their_primitive_cells():
    chgnet = load_potential("chgnet")
    large = relax(nacl_primitive() * (2, 2, 1), chgnet, symprec=SYMPREC_GENERATED)
    small = relax(nacl_primitive(), chgnet, symprec=SYMPREC_GENERATED)
    assert len(large.structure) == 2
    assert large.energy_per_atom == pytest.approx(small.energy_per_atom, abs=1e-5)
    assert large.volume_change == pytest.approx(small.volume_change, abs=1e-4)


def test_a_higher_group_that_is_reached_is_taken():
    # Sheared rock salt comes back within the tolerance of a higher group, not to the last digit.
    sheared = nacl_primitive().apply_strain([0.0, 0.0, 0.06])
    kept = relax(sheared, load_potential("chgnet"), symprec=SYMPREC_GENERATED)
    assert kept.constrained_space_group == space_group_of(sheared, SYMPREC_GENERATED) == 12
    reached = space_group_of(kept.structure, SYMPREC_GENERATED)
    assert reached in (166, 225)  # rhombohedral or cubic: supergroups of 12
    assert space_group_of(kept.structure, 1e-5) == reached


def simple_cubic(lattice_constant=3.6):
    return Structure(Lattice.cubic(lattice_constant), ["Ar"], [[0, 0, 0]])


def test_saddle_point_is_left_when_the_symmetry_is_released(lennard_jones):
    # Simple cubic argon is held by its group and gains by shear, up to fcc.
    kept = relax(simple_cubic(), lennard_jones, TIGHT, symprec=SYMPREC_GENERATED)
    assert kept.converged
    assert kept.constrained_space_group == 221
    assert space_group_of(kept.structure, 1e-6) == 221
    released = release(kept, lennard_jones, TIGHT)
    assert released.accepted
    assert released.relaxation.energy_per_atom == pytest.approx(-8.61 * EPSILON, rel=0.05)
    assert released.energy_change == pytest.approx(
        released.relaxation.energy_per_atom - kept.energy_per_atom
    )
    assert released.space_group == 225  # of the lower minimum, on exact positions
    assert space_group_of(released.relaxation.structure, 1e-5) == 225


def test_minimum_is_kept_when_the_symmetry_is_released():
    chgnet = load_potential("chgnet")
    kept = relax(nacl_primitive(), chgnet, symprec=SYMPREC_GENERATED)
    released = release(kept, chgnet)
    assert not released.accepted
    assert released.space_group == 225
    assert abs(released.energy_change) < MIN_ENERGY_FALL


@pytest.mark.parametrize(
    ("energy_change", "kept", "released", "expected"),
    [
        (-0.004, 121, 1, False),  # I-42m Li3PS4 stays what its chemist knows
        (-0.006, 121, 1, True),
        (-0.004, 193, 176, False),  # to a subgroup
        (-0.004, 14, 62, True),  # to a higher group, or the same: nothing is lost
        (-0.004, 14, 14, True),
        (-0.0005, 14, 62, False),  # scatter
        (float("nan"), 14, 62, False),
    ],
)
def test_symmetry_is_given_up_for_a_gain_that_is_worth_it(energy_change, kept, released, expected):
    assert is_worth_releasing(energy_change, kept, released) == expected


def test_ferroelectric_distortion_is_worth_its_symmetry():
    chgnet = load_potential("chgnet")
    kept = relax(cubic_lead_titanate(), chgnet, symprec=SYMPREC_GENERATED)
    released = release(kept, chgnet)
    assert kept.constrained_space_group == 221
    assert released.energy_change < -MIN_DISTORTION_FALL
    assert released.accepted


def test_rattle_depends_on_nothing_but_the_crystal():
    one, again = rattled(quartz()), rattled(quartz())
    assert np.array_equal(one.frac_coords, again.frac_coords)
    shift = (one.frac_coords - quartz().frac_coords + 0.5) % 1 - 0.5
    spread = np.std(shift @ quartz().lattice.matrix)
    assert 0.03 < spread < 0.07
    assert not np.allclose(rattled(rutile()).frac_coords, rutile().frac_coords)
