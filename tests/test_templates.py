"""The template model: what is drawn is legal, as asked, and does not depend on its batch."""

import importlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mattergen_lite.config import ModelConfig
from mattergen_lite.data.table import NEW_FRAMEWORKS
from mattergen_lite.options.request import Request
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.generated import (
    GeneratedTemplateSampler,
    template_model,
    template_orbits,
)
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.properties import Property
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.symmetry.frameworks import known_frameworks
from mattergen_lite.symmetry.protostructures import positions_of, protostructure
from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.templates.model import TemplateModel
from mattergen_lite.templates.sampling import TemplateRequest, draw_templates
from mattergen_lite.templates.tokens import (
    PositionRules,
    TemplateConditions,
    completing_positions,
    pack,
)

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from template_training import canonical_template, losses, write_tokens


def partial_crystals(count: int = 16, frameworks: str = "drawn", **request: str) -> list:
    constraints = parse_constraints(Request(**request))
    source = partial_crystal_sampler(constraints, ModelConfig(), frameworks=frameworks)
    return source.draw_each(sample_rngs(0, range(count)))


def sizes(partial_crystal) -> Counter:
    """Atoms of each element that a partial crystal prescribes."""
    counts = Counter()
    for element, size in zip(
        partial_crystal.elements, partial_crystal.orbits.multiplicities, strict=True
    ):
        counts[element] += int(size)
    return counts


@pytest.mark.parametrize("number", [2, 62, 139, 194, 216, 225])
def test_positions_that_can_complete_a_class_are_those_that_brute_force_finds(number):
    table = wyckoff_positions(number)
    for remaining in range(1, 13):
        rules = PositionRules(number)
        possible = np.flatnonzero(rules.possible(remaining)).tolist()
        assert possible == [
            site
            for site in range(len(table))
            if can_complete(table, remaining - int(table.multiplicity[site]), site, {site})
        ]


def can_complete(table, remaining: int, lowest: int, taken: set[int]) -> bool:
    if remaining <= 0:
        return remaining == 0
    return any(
        can_complete(table, remaining - int(table.multiplicity[site]), site, taken | {site})
        for site in range(lowest, len(table))
        if not (site in taken and table.freedom[site] == 0)
    )


def test_a_position_without_freedom_is_taken_once():
    mask = completing_positions(225, frozenset({0}), 0, 1)
    assert np.flatnonzero(mask).tolist() == [1]


def test_templates_are_legal_and_expand_to_the_protostructure_that_was_drawn():
    for partial_crystal in partial_crystals(24):
        orbits = partial_crystal.orbits
        positions = positions_of(orbits)
        table = wyckoff_positions(orbits.space_group)
        rigid = positions[table.freedom[positions] == 0]
        assert len(set(rigid.tolist())) == len(rigid)
        assert orbits.multiplicities.tolist() == table.multiplicity[positions].tolist()
        numbers, coords = orbits.expand()
        assert len(coords) == len(numbers) == orbits.multiplicities.sum() <= 20


def test_by_default_some_templates_are_new_and_a_formula_takes_known_ones():
    names = known_frameworks()
    new = [
        protostructure(partial_crystal.orbits) not in names
        for partial_crystal in partial_crystals(200, None)
    ]
    assert 0.25 < np.mean(new) < 0.55, "35% collected, 5% drawn"
    formula = partial_crystals(20, None, formula="MgAl2O4")
    assert all(protostructure(partial_crystal.orbits) in names for partial_crystal in formula)
    gap = Property(name="band_gap", unit="eV", mean=0.6, std=1.3, minimum=0.0, maximum=18.0)
    target = parse_targets(["band_gap=3"], (), [gap])
    source = partial_crystal_sampler(parse_constraints(Request()), ModelConfig(), targets=target)
    chosen = source.draw_each(sample_rngs(0, range(20)))
    assert all(protostructure(partial_crystal.orbits) in names for partial_crystal in chosen)


def test_all_crystals_on_target_lend_their_templates_to_required_elements():
    """Hardly any known crystal is a magnet; of 2,000 rows at random 64 samples take 9 templates."""
    density = Property(name="magnetic_density", unit="µB/Å³", mean=0.005, std=0.02, minimum=0.0)
    target = parse_targets(["magnetic_density>0.08"], (), [density])
    constraints = parse_constraints(Request(must_contain="Fe", space_group="75..194"))
    source = partial_crystal_sampler(constraints, ModelConfig(), targets=target)
    chosen = source.draw_each(sample_rngs(0, range(64)))
    names = {(protostructure(each.orbits), each.elements) for each in chosen}
    assert len(names) > 15
    assert all(26 in each.elements for each in chosen)


def test_samples_do_not_depend_on_their_batch():
    together = partial_crystals(12)
    source = partial_crystal_sampler(
        parse_constraints(Request()), ModelConfig(), frameworks="drawn"
    )
    for rng, partial_crystal in zip(sample_rngs(0, range(12)), together, strict=True):
        alone = source.draw(rng)
        assert alone.orbits.space_group == partial_crystal.orbits.space_group
        assert np.array_equal(alone.orbits.frac_coords, partial_crystal.orbits.frac_coords)


@pytest.mark.parametrize("formula", ["LiFePO4", "K2PtCl6", "MgAl2O4"])
def test_a_formula_is_kept_and_its_symmetry_varies(formula):
    found = partial_crystals(16, formula=formula, formula_units="1")
    wanted = parse_constraints(Request(formula=formula, formula_units="1"))
    for partial_crystal in found:
        assert sizes(partial_crystal) == wanted.required_atoms(
            int(partial_crystal.orbits.multiplicities.sum())
        )
    assert len({partial_crystal.orbits.space_group for partial_crystal in found}) > 1


def test_a_chemical_system_has_each_of_its_elements_and_no_other():
    for partial_crystal in partial_crystals(16, chemical_system="Li-P-S"):
        assert set(partial_crystal.elements) == {3, 15, 16}


def test_space_groups_and_numbers_of_atoms_are_kept():
    for partial_crystal in partial_crystals(12, space_group="cubic", num_atoms="4..10"):
        assert 195 <= partial_crystal.orbits.space_group <= 230
        assert 4 <= partial_crystal.orbits.multiplicities.sum() <= 10


def test_new_templates_are_those_of_no_known_crystal():
    known = known_frameworks()
    for partial_crystal in (*partial_crystals(16, "drawn"), *partial_crystals(32, "new")):
        assert protostructure(partial_crystal.orbits) not in known
        assert partial_crystal.orbits.space_group > 2
    is_new = [
        protostructure(partial_crystal.orbits) not in known
        for partial_crystal in partial_crystals(64, "any")
    ]
    assert 12 < sum(is_new) < 40


def test_screened_crystals_have_frameworks_that_no_known_crystal_has():
    known = known_frameworks()
    library = template_library(20, 52, NEW_FRAMEWORKS)
    labels = {protostructure(library.crystals.orbits(row)) for row in range(len(library.num_atoms))}
    assert len(labels) == len(library.num_atoms) > 50
    assert not any(label in known for label in labels)


@pytest.mark.parametrize(
    ("request_", "frameworks", "message"),
    [
        ({"space_group": "none"}, "new", "takes no template"),
        ({"space_group": "225", "num_atoms": "1"}, "drawn", "finds no new template"),
        ({"space_group": "230", "num_atoms": "3"}, "drawn", "finds no new template"),
    ],
)
def test_what_no_template_can_be_is_refused_in_one_line(request_, frameworks, message):
    with pytest.raises(ValueError, match=message) as error:
        partial_crystals(2, frameworks, **request_)
    assert "\n" not in str(error.value)


def test_the_likelihood_of_equivalent_descriptions_is_equal():
    elements = np.array([11, 17])
    first = canonical_template(225, np.array([0, 1]), elements)
    second = canonical_template(225, np.array([1, 0]), elements)
    assert first == second
    network = template_model().network
    tokens = pack([write_tokens(one, [False, False]) for one in (first, second)])
    parts = losses(network, tokens, TemplateConditions.none(2))
    assert torch.isfinite(parts.total)


def test_what_is_drawn_has_the_probability_that_the_loss_says():
    """Frequencies of space groups for one composition against the network's own softmax."""
    network = template_model().network
    request = TemplateRequest(num_atoms=2, classes=((1, 11), (1, 17)))
    drawn = draw_templates(network, lambda _: request, sample_rngs(0, range(300)))
    counts = Counter(one.space_group for one in drawn)
    assert counts.most_common(1)[0][0] in (221, 225)
    assert counts[225] + counts[221] > 0.6 * 300


def test_a_model_is_saved_and_read_again(tmp_path):
    model = TemplateModel.new(dim=32, depth=1, num_heads=2)
    model.save(tmp_path)
    again = TemplateModel.load(tmp_path)
    for name, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value.bfloat16().float())
    (tmp_path / "config.yaml").write_text("dim: 64\ndepth: 1\nnum_heads: 2\n")
    with pytest.raises(ValueError, match="do not fit"):
        TemplateModel.load(tmp_path)


def test_free_coordinates_are_drawn_and_those_of_the_site_are_kept():
    source = partial_crystal_sampler(
        parse_constraints(Request()), ModelConfig(), frameworks="drawn"
    )
    assert isinstance(source, GeneratedTemplateSampler)
    (partial_crystal,) = source.draw_each(sample_rngs(3, [0]))
    template = canonical_template(62, np.array([0, 2]), np.array([3, 8]))
    first, second = (template_orbits(template, rng) for rng in sample_rngs(0, range(2)))
    assert partial_crystal.prescribed
    assert np.array_equal(first.frac_coords[0], second.frac_coords[0])
    assert not np.array_equal(first.frac_coords[1], second.frac_coords[1])


def test_a_source_that_cannot_make_a_sample_leaves_it_to_the_others():
    """No collected framework takes these formulas on whole classes of atoms."""
    known = known_frameworks()
    for formula in ("Li6PS5Cl", "LiFePO4"):
        for partial_crystal in partial_crystals(6, "new", formula=formula):
            assert protostructure(partial_crystal.orbits) not in known
    assert len(partial_crystals(24, "any", space_group="2")) == 24
    with pytest.raises(ValueError, match="beyond P-1 is new"):
        partial_crystals(1, "drawn", space_group="2")


def test_training_learns_and_goes_on_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "scripts")
    script = importlib.import_module("train_templates")
    crystals = template_library(12, 52, NEW_FRAMEWORKS).crystals
    templates = [
        canonical_template(orbits.space_group, positions_of(orbits), orbits.atomic_numbers)
        for orbits in map(crystals.orbits, range(64))
    ]
    examples = script.Examples(templates, np.zeros(len(templates)))
    monkeypatch.setattr(script, "read_examples", lambda without: (examples, examples))
    monkeypatch.setattr(script, "BATCH_SIZE", 16)
    monkeypatch.setattr(script, "WARM_UP", 1)
    size = ("--out", str(tmp_path), "--dim", "32", "--depth", "1")
    script.main([*size, "--epochs", "1"])
    first = script.evaluate(TemplateModel.load(tmp_path), examples).sum()
    script.main([*size, "--epochs", "6"])
    assert script.evaluate(TemplateModel.load(tmp_path), examples).sum() < first - 1
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 6
