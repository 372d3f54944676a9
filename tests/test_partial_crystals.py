"""Partial crystals: what is settled before any noise is exactly what was asked for."""

from collections import Counter

import numpy as np
import pytest
import torch
from crystals import nacl, rutile
from models import tiny_model
from pymatgen.core import Composition, Structure

from mattergen_lite.chemistry.elements import atomic_number, element_mask, symbols
from mattergen_lite.config import ModelConfig
from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.library import MAX_TEMPLATE_ENERGY, template_library
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystal, PartialCrystalBatch
from mattergen_lite.partial_crystals.placement import match_elements, place_on_orbits, share_out
from mattergen_lite.properties import crystal_system_index
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.host import parse_host
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.sampler import Target, sample

MODEL = ModelConfig(atom_count_histogram=(1,) * 52)
ALL = element_mask(symbols()[1:])


def partial_crystals(
    count=12, model=MODEL, seed=0, host=None, **constraints
) -> list[PartialCrystal]:
    source = partial_crystal_sampler(parse_constraints(Request(**constraints), host), model)
    return [source.draw(rng) for rng in sample_rngs(seed, range(count))]


def counts(partial_crystal: PartialCrystal) -> Counter:
    """Atoms of each element that is settled; 0 = open."""
    found: Counter = Counter()
    for number, size in zip(
        partial_crystal.elements, partial_crystal.orbits.multiplicities.tolist(), strict=True
    ):
        found[number] += size
    return found


def formula(partial_crystal: PartialCrystal) -> str:
    settled = {symbols()[z]: n for z, n in counts(partial_crystal).items()}
    return Composition(settled).reduced_formula


# Templates


def test_templates_are_of_stable_known_crystals_outside_the_test_split():
    library = template_library(20, 52)
    assert library.crystals.num_orbits.max() <= 20
    assert library.num_atoms.max() <= 52
    assert (library.num_atoms > 20).any()
    table = read_crystal_table("embedded", ["split", "e_above_hull"])
    near = table.to_pandas()
    near = near[near["e_above_hull"] <= MAX_TEMPLATE_ENERGY]
    allowed = near["split"].isin(["train", "val", "extra"]).sum()
    assert 0 < len(library.crystals) <= allowed


def test_samples_take_symmetry_as_known_crystals_have_it():
    found = partial_crystals(200)
    groups = [partial_crystal.orbits.space_group for partial_crystal in found]
    assert len(set(groups)) > 30
    assert np.mean([group > 2 for group in groups]) > 0.8
    assert all(set(partial_crystal.elements) == {0} for partial_crystal in found)
    assert all(partial_crystal.prescribed for partial_crystal in found)


@pytest.mark.parametrize("text", ["LiFePO4", "SrTiO3", "NaCl", "Cu", "MgAl2O4", "Li3PS4"])
def test_a_formula_is_exact_on_templates(text):
    for partial_crystal in partial_crystals(formula=text):
        assert formula(partial_crystal) == Composition(text).reduced_formula
        assert 0 not in partial_crystal.elements
        assert len(partial_crystal.elements) <= 20


def test_templates_of_a_formula_come_from_similar_crystals():
    """Rock salt's own structure is among the few ways in which NaCl is drawn."""
    found = [
        (d.orbits.space_group, int(d.orbits.multiplicities.sum()))
        for d in partial_crystals(40, formula="NaCl")
    ]
    assert (225, 2) in found
    assert len(set(found)) > 2


def test_formula_units_and_sizes():
    assert {
        sum(counts(d).values()) for d in partial_crystals(formula="SrTiO3", formula_units="2")
    } == {10}
    sizes = {sum(counts(d).values()) for d in partial_crystals(num_atoms="25..30")}
    assert sizes <= set(range(25, 31))
    assert sizes


def test_a_formula_that_no_known_crystal_has_is_put_on_orbits_that_add_up():
    for partial_crystal in partial_crystals(6, formula="Li7Fe3P2O9", formula_units="1"):
        assert counts(partial_crystal) == {3: 7, 26: 3, 15: 2, 8: 9}


def test_a_chemical_system_puts_each_element_on_a_class():
    for partial_crystal in partial_crystals(chemical_system="Li-P-S"):
        assert {3, 15, 16} <= set(partial_crystal.elements)
        batch = PartialCrystalBatch.of([partial_crystal], element_mask(["Li", "P", "S"]))
        classes = batch.crystals.templates.element_class[0]
        for orbit, number in enumerate(partial_crystal.elements):
            if number and partial_crystal.prescribed:
                assert partial_crystal.elements[int(classes[orbit])] == number
            allowed = batch.allowed[0, orbit].nonzero().flatten().tolist()
            assert allowed == ([number] if number else [3, 15, 16])


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("225", 225, 225), ("195..230", 195, 230), ("hexagonal", 168, 194), ("triclinic", 1, 2)],
)
def test_space_groups_filter_templates(text, first, last):
    groups = {
        partial_crystal.orbits.space_group
        for partial_crystal in partial_crystals(20, space_group=text)
    }
    assert all(first <= group <= last for group in groups)
    systems = crystal_system_index(torch.tensor(sorted(groups)))
    assert len(systems.unique()) == 1


def test_none_means_every_atom_is_free():
    for partial_crystal in partial_crystals(space_group="none", num_atoms="3..6"):
        assert partial_crystal.orbits.space_group == 1
        assert partial_crystal.orbits.multiplicities.tolist() == [1] * len(partial_crystal.elements)
        assert not partial_crystal.prescribed
        assert 3 <= len(partial_crystal.elements) <= 6
    for partial_crystal in partial_crystals(space_group="none", formula="Li3PS4"):
        assert formula(partial_crystal) == "Li3PS4"


def test_sizes_without_symmetry_follow_the_histogram():
    model = MODEL.model_copy(update={"atom_count_histogram": (0, 3, 1)})
    sizes = np.array(
        [len(d.elements) for d in partial_crystals(1500, space_group="none", model=model)]
    )
    assert set(sizes) == {2, 3}
    assert (sizes == 2).mean() == pytest.approx(0.75, abs=0.04)
    unseen = partial_crystals(300, space_group="none", model=model, num_atoms="4..5")
    assert np.mean([len(d.elements) == 4 for d in unseen]) == pytest.approx(0.5, abs=0.1)


def test_partial_crystals_are_a_function_of_seed_and_number():
    one, two, other = (partial_crystals(8, seed=seed, chemical_system="Li-O") for seed in (0, 0, 1))
    assert [d.elements for d in one] == [d.elements for d in two]
    assert [d.orbits.space_group for d in one] != [d.orbits.space_group for d in other]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space_group": "231"}, "space-group '231': expected any, none, a number from 1 to 230"),
        ({"space_group": "cubical"}, "space-group 'cubical': expected .* hexagonal, cubic"),
        ({"space_group": "230..225"}, "space-group '230..225': expected"),
        (
            {"space_group": "227", "num_atoms": "7"},
            "space-group 227: no known crystal near the hull has that with 7 atoms .* some with",
        ),
        ({"space_group": "none", "num_atoms": "40"}, "at most 20 atoms without symmetry"),
        ({"num_atoms": "60"}, r"this model makes 1\.\.52"),
        ({"formula": "Li7Fe3P2O9", "space_group": "225"}, "space-group 225"),
    ],
)
def test_what_no_template_holds_is_said_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        partial_crystals(**arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_elements_go_where_similar_ones_were():
    replaced, off = match_elements(
        Counter({atomic_number("Na"): 1, atomic_number("Cl"): 1}),
        Counter({atomic_number("Br"): 1, atomic_number("K"): 1}),
        complete=False,
    )
    assert replaced == {atomic_number("Na"): atomic_number("K"), atomic_number("Cl"): 35}
    assert 0 < off < 0.5
    assert match_elements(Counter({11: 1, 17: 2}), Counter({19: 3}), complete=True) is None
    assert match_elements(Counter({11: 1}), Counter({19: 1, 35: 1}), complete=False) is None
    assert match_elements(Counter({11: 1, 17: 1}), Counter({19: 2}), complete=False) is None


def test_orbits_are_shared_out_exactly_or_not_at_all():
    rng = torch.Generator().manual_seed(0)
    sizes = np.array([4, 4, 2, 1, 1])
    for _ in range(20):
        placed = place_on_orbits(sizes, Counter({3: 6, 8: 6}), True, rng)
        totals = Counter()
        for number, size in zip(placed, sizes.tolist(), strict=True):
            totals[number] += size
        assert totals == {3: 6, 8: 6}
    assert place_on_orbits(np.array([4, 4]), Counter({3: 6, 8: 2}), True, rng) is None
    assert sorted(place_on_orbits(sizes, Counter({3: 1}), False, rng)) == [0, 0, 0, 0, 3]
    assert sorted(place_on_orbits(np.ones(3, int), Counter({3: 2}), False, rng)) == [0, 3, 3]
    assert place_on_orbits(np.ones(3, int), Counter({3: 2, 8: 2}), False, rng) is None


def test_prescribed_classes_hold_one_element_in_every_sample():
    """Orbits that are alike in the known crystal are alike in the sample, from random weights."""
    model = tiny_model()
    target = Target(constraints=parse_constraints(Request(num_atoms="6..12")))
    samples = sample(model, range(12), seed=0, options=SamplerOptions(steps=3), target=target)
    shared = 0
    for crystal in samples.orbits:
        classes = crystal.templates.element_class[0]
        numbers = crystal.atomic_numbers[0]
        assert torch.equal(numbers, numbers[classes])
        shared += int((classes != torch.arange(len(classes))).sum())
    assert shared > 0


# Hosts


@pytest.fixture(scope="module")
def olivine() -> Structure:
    table = read_crystal_table("embedded")
    rows = [i for i, name in enumerate(table["material_id"].to_pylist()) if name == "mp-19017"]
    return row_structure(table.slice(rows[0], 1).to_pylist()[0])


def written(structure: Structure, folder):
    path = folder / "host.json"
    path.write_text(structure.to_json())
    return path


def test_olivine_gets_its_lithium_back(olivine, tmp_path):
    """28 atoms, Pnma: four Li on positions of the framework's own group."""
    assert len(olivine) == 28
    host = parse_host(written(olivine, tmp_path), "Fe,P,O", True, None)
    found = partial_crystals(20, formula="LiFePO4", host=host)
    for partial_crystal in found:
        assert partial_crystal.orbits.space_group == 62
        assert counts(partial_crystal) == {3: 4, 26: 4, 15: 4, 8: 16}
        placed = [
            size
            for size, known in zip(
                partial_crystal.orbits.multiplicities, partial_crystal.known, strict=True
            )
            if not known
        ]
        assert sum(placed) == 4
        assert partial_crystal.fixed_cell
    places = {
        tuple(np.round(partial_crystal.orbits.frac_coords[-1], 3)) for partial_crystal in found
    }
    assert len(places) > 1


HOSTS = {"rock salt": (nacl(), "Cl", 4), "rutile": (rutile(), "Ti", 4)}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("fix_lattice", [True, False])
def test_hosts_of_any_cell_come_back_with_their_own_numbers(tmp_path, name, fix_lattice):
    """Also a conventional cell that holds several primitive ones."""
    structure, fixed, count = HOSTS[name]
    host = parse_host(written(structure, tmp_path), fixed, fix_lattice, None)
    model = tiny_model()
    target = Target(constraints=parse_constraints(Request(), host))
    samples = sample(model, range(6), seed=0, options=SamplerOptions(steps=3), target=target)
    kept = [site for site in structure if site.specie.symbol == fixed]
    for found in to_structures(samples.crystals):
        assert len(found) == len(kept) + count
        for site, original in zip(found, kept, strict=False):
            assert site.specie == original.specie
            assert np.array_equal(site.frac_coords, original.frac_coords)
        same = np.array_equal(found.lattice.matrix, structure.lattice.matrix)
        assert same == fix_lattice


def test_partial_crystals_of_a_host_are_the_host_once_atoms_are_placed(tmp_path):
    """What is sampled in the primitive cell, put back: fixed sites where the file has them."""
    host = parse_host(written(nacl(), tmp_path), "Cl", True, None)
    for partial_crystal in partial_crystals(4, host=host):
        batch = PartialCrystalBatch.of([partial_crystal], ALL)
        restored = partial_crystal.restored(batch.crystals)
        lattice = restored.lattice[0].numpy()
        assert np.array_equal(lattice, nacl().lattice.matrix)
        assert int(restored.num_atoms[0]) == 8
        primitive = batch.crystals.expand()
        known = torch.tensor(
            np.repeat(partial_crystal.known, partial_crystal.orbits.multiplicities)
        )
        back = partial_crystal.change.back(primitive.frac_coords[0][known].double()).flatten(0, 1)
        expected = host.coords
        apart = (back[:, None] - expected).numpy()
        distance = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1)
        assert distance.min(0).max() < 1e-3


def test_placed_atoms_have_the_symmetry_of_the_framework(olivine, tmp_path):
    import spglib

    host = parse_host(written(olivine, tmp_path), "Fe,P,O", True, None)
    model = tiny_model()
    model.config = model.config.model_copy(update={"max_atoms": 52})
    target = Target(constraints=parse_constraints(Request(formula="LiFePO4"), host))
    samples = sample(model, range(2), seed=0, options=SamplerOptions(steps=3), target=target)
    for found in to_structures(samples.crystals):
        cell = (found.lattice.matrix, found.frac_coords, found.atomic_numbers)
        assert len(spglib.get_symmetry(cell, 0.05)["rotations"]) >= 8


def test_a_host_without_prescribed_symmetry(tmp_path):
    host = parse_host(written(nacl(), tmp_path), "Cl", True, "1..3")
    sizes = set()
    for partial_crystal in partial_crystals(20, space_group="none", host=host):
        assert partial_crystal.orbits.space_group == 1
        assert partial_crystal.known == (True,) * 4 + (False,) * (len(partial_crystal.known) - 4)
        sizes.add(len(partial_crystal.known) - 4)
    assert sizes == {1, 2, 3}


def test_numbers_that_do_not_add_up_are_placed_without_symmetry(tmp_path):
    """Three atoms are no multiple of what rock salt's cell repeats."""
    host = parse_host(written(nacl(), tmp_path), "Cl", True, "3")
    for partial_crystal in partial_crystals(5, host=host):
        assert partial_crystal.orbits.space_group == 1
        assert int(partial_crystal.orbits.multiplicities.sum()) == 7


def test_a_host_with_too_many_sites_says_so(olivine, tmp_path):
    host = parse_host(written(olivine, tmp_path), "Fe,P,O", True, "3")
    with pytest.raises(ValueError, match=r"host.json: no Wyckoff positions .* 62\) add up to 3"):
        partial_crystals(host=host)


def test_sharing_out_what_does_not_fit_takes_no_exponential_time():
    sizes = [2] * 30  # an odd number of each of three elements: 3^30 ways, none of which works
    room = Counter({1: 21, 2: 19, 3: 20})
    assert share_out(sizes, room, torch.Generator().manual_seed(0)) is None
    found = share_out([4, 4, 2, 1, 1], Counter({5: 6, 8: 6}), torch.Generator().manual_seed(0))
    assert found[0] != found[1]
    assert sum(size for size, one in zip([4, 4, 2, 1, 1], found, strict=True) if one == 5) == 6
