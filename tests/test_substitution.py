"""Substitution: known frameworks, near elements, cells of the right size, one crystal a number."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, atomic_number, element_descriptors
from mattergen_lite.config import ModelConfig
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.success_rates import template_success_rates
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.sampling.generator import open_generator
from mattergen_lite.sampling.ions import ionic_radii, nearest_ions, oxidation_states
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.substitution import (
    NUM_NEAREST,
    Substitution,
    nearest_elements,
    replaced_elements,
    similar_ions,
    substituted,
)
from mattergen_lite.scoring.criteria.symmetry import space_group_of
from mattergen_lite.symmetry.orbits import find_orbits

EVERY_ELEMENT = torch.arange(MAX_ATOMIC_NUMBER + 1) > 0


def proposals(numbers=range(8), seed=0, of_ions=False, **asked):
    substitution = Substitution(constraints=parse_constraints(Request(**asked)), of_ions=of_ions)
    (batch,) = substitution.records(numbers, len(numbers), seed=seed)
    return batch


def test_nearest_elements_are_the_nearest_of_those_allowed():
    sodium = atomic_number("Na")
    nearest = nearest_elements(sodium, EVERY_ELEMENT)
    assert atomic_number("K") in nearest
    distances = torch.linalg.norm(element_descriptors() - element_descriptors()[sodium], dim=1)
    within = (distances[1:] <= distances[nearest[-1]] + 1e-6).sum()
    assert within == NUM_NEAREST + 1  # and sodium itself
    allowed = EVERY_ELEMENT.clone()
    allowed[atomic_number("K")] = False
    assert atomic_number("K") not in nearest_elements(sodium, allowed)
    assert nearest_elements(sodium, torch.zeros_like(allowed)) == [sodium]


def test_a_proposal_is_a_function_of_its_number():
    four = proposals(range(5, 9), seed=3)
    assert [one.name for one in four] == ["000005", "000006", "000007", "000008"]
    (again,) = proposals(range(7, 8), seed=3)
    assert np.array_equal(four[2].structure.frac_coords, again.structure.frac_coords)
    assert four[2].structure.composition == again.structure.composition
    (other,) = proposals(range(7, 8), seed=4)
    assert other.structure != again.structure
    batches = Substitution().records(range(7), 3, seed=0)
    assert [len(one) for one in batches] == [3, 3, 1]


def test_proposals_are_known_frameworks_with_other_elements_and_scaled_cells():
    source, rngs = (
        partial_crystal_sampler(Constraints(), ModelConfig(), frameworks="known"),
        sample_rngs(0, range(8)),
    )
    for rng in rngs:
        partial_crystal = source.draw(rng)
        elements = replaced_elements(partial_crystal, EVERY_ELEMENT, rng)
        if elements is None:  # two elements became the same: another crystal is tried
            continue
        assert any(old != new for old, new in elements.items())
        assert len(set(elements.values())) == len(elements)
        crystal = substituted(partial_crystal.orbits, elements)
        old, frac_coords = partial_crystal.orbits.expand()
        assert [elements[number] for number in old] == list(crystal.atomic_numbers)
        assert np.allclose((crystal.frac_coords - frac_coords + 0.5) % 1, 0.5)
        scale = covalent_radii[list(crystal.atomic_numbers)].sum() / covalent_radii[old].sum()
        assert np.allclose(crystal.lattice.matrix, scale * partial_crystal.orbits.lattice)
        assert space_group_of(crystal, 0.1) >= partial_crystal.orbits.space_group


def test_constraints_hold():
    for record in proposals(chemical_system="Li-P-S"):
        assert record.structure.chemical_system == "Li-P-S"
    for record in proposals(formula="SrTiO3", space_group="221"):
        assert record.structure.composition.reduced_formula == "SrTiO3"
        assert space_group_of(record.structure, 0.1) == 221
    for record in proposals(exclude="toxic", num_atoms="4..6"):
        assert 4 <= len(record.structure) <= 6
        assert not {"As", "Cd", "Hg", "Tl", "Pb"} & set(record.structure.symbol_set)


def test_radii_and_states_are_those_of_shannon_and_the_icsd():
    radii = {symbol: ionic_radii(2)[atomic_number(symbol)] for symbol in ("Mg", "Fe", "Ca", "Ba")}
    assert radii == {"Mg": 0.72, "Fe": 0.78, "Ca": 1.00, "Ba": 1.35}  # six neighbours, high spin
    assert ionic_radii(4)[atomic_number("C")] == 0.16
    assert ionic_radii(-2)[atomic_number("S")] == 1.84
    assert atomic_number("H") not in ionic_radii(1)
    assert ionic_radii(9) == {}
    calcium, strontium = atomic_number("Ca"), atomic_number("Sr")
    nearest = nearest_ions(calcium, 2, EVERY_ELEMENT, 60)
    gaps = [abs(ionic_radii(2)[z] - 1.00) for z in nearest]
    assert gaps == sorted(gaps)
    assert strontium in nearest
    assert calcium not in nearest
    allowed = torch.zeros_like(EVERY_ELEMENT)
    allowed[[strontium, atomic_number("Cl")]] = True
    assert nearest_ions(calcium, 2, allowed, 6) == [strontium]
    assert nearest_ions(calcium, 3, EVERY_ELEMENT, 6) == []


def test_an_ion_exchange_keeps_every_charge():
    source, rngs = (
        partial_crystal_sampler(Constraints(), ModelConfig(), frameworks="known"),
        sample_rngs(0, range(40)),
    )
    num_exchanged = 0
    for rng in rngs:
        partial_crystal = source.draw(rng)
        states = oxidation_states(partial_crystal.orbits)
        elements = replaced_elements(partial_crystal, EVERY_ELEMENT, rng, similar_ions)
        if states is None:  # an alloy, or two states of one element
            assert elements is None
            continue
        numbers, _ = partial_crystal.orbits.expand()
        assert sum(states[number] for number in numbers.tolist()) == 0
        if elements is None:
            continue
        num_exchanged += 1
        for old, new in elements.items():
            assert new == old or new in ionic_radii(states[old])
    assert num_exchanged > 8


def test_constraints_hold_for_ions():
    batch = proposals(of_ions=True, exclude="toxic,radioactive", num_atoms="2..10")
    for record in batch:
        assert len(record.structure) <= 10
        assert not {"As", "Cd", "Hg", "Tl", "Pb", "U"} & set(record.structure.symbol_set)
    (again,) = proposals(range(5, 6), of_ions=True, exclude="toxic,radioactive", num_atoms="2..10")
    assert again.structure == batch[5].structure
    for record in proposals(range(2), of_ions=True, chemical_system="Li-Mg-O"):
        assert record.structure.chemical_system == "Li-Mg-O"
    with pytest.raises(ValueError, match="propose ion-exchange: none of 1000 known crystals"):
        proposals(range(1), of_ions=True, formula="Na3K")


@pytest.mark.parametrize("propose", ["substitution", "ion-exchange"])
def test_what_needs_a_model_is_refused(propose):
    for asked in ({"condition": ("band_gap=2",)}, {"space_group": "none"}):
        with pytest.raises(ValueError, match=f"propose {propose}: .* needs a model"):
            open_generator(Request(propose=propose, **asked), SamplerOptions(), torch.device("cpu"))
    with pytest.raises(ValueError, match="no known crystal has the stoichiometry"):
        proposals(formula="H3He7Xe11")


@pytest.mark.parametrize("propose", ["substitution", "ion-exchange"])
def test_templates_that_have_yielded_more_are_preferred_without_a_model_too(propose):
    def mean_yield(bias):
        options = SamplerOptions(template_bias=bias)
        generator = open_generator(Request(propose=propose), options, torch.device("cpu"))
        (records,) = generator.records(range(60), 60, seed=0)
        yields = []
        for record in records:
            crystal = record.structure
            orbits = find_orbits(
                np.array(crystal.atomic_numbers), crystal.frac_coords, crystal.lattice.matrix
            )
            sizes = Counter()
            for number, size in zip(orbits.atomic_numbers, orbits.multiplicities, strict=True):
                sizes[number] += int(size)
            classes = tuple(sorted(sizes.values()))
            yields.append(template_success_rates().of(orbits.space_group, classes))
        return sum(yields) / len(yields)

    assert mean_yield(3.0) > 1.3 * mean_yield(0.0)
