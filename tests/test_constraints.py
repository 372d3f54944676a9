"""Exact constraints: every sample satisfies them, and what no sample can satisfy is said before."""

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from crystals import li3ps4
from models import tiny_config, tiny_model
from pymatgen.core import Composition, Structure

import mattergen_lite
from mattergen_lite.chemistry.elements import (
    atomic_number,
    element_groups,
    element_mask,
    parse_elements,
    symbols,
)
from mattergen_lite.config import ModelConfig
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.free import FreeSampler
from mattergen_lite.partial_crystals.hosts import HostSampler
from mattergen_lite.partial_crystals.known import TemplateSampler
from mattergen_lite.partial_crystals.partial_crystal import (
    PartialCrystalBatch,
    PartialCrystalSampler,
)
from mattergen_lite.request.base import Constraint, Constraints
from mattergen_lite.request.constraints import parse_constraints, parse_formula
from mattergen_lite.request.host import parse_host
from mattergen_lite.request.stoichiometry import can_be_neutral
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.scoring.criteria.credibility import members

ALL = element_mask(symbols()[1:])


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


@pytest.fixture(scope="module")
def shipped():
    return CrystalDiffusion.load(find_checkpoint("mp"))


@pytest.fixture(scope="module")
def host_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("host") / "li3ps4.cif"
    li3ps4().to(str(path))
    return path


def asked(host=None, **constraints) -> Target:
    return Target(constraints=parse_constraints(Request(**constraints), host))


def samples_of(model, count=8, steps=3, **constraints) -> list[Structure]:
    options = SamplerOptions(steps=steps, batch_size=8)
    target = asked(**constraints)
    return to_structures(
        sample(model, range(count), seed=0, options=options, target=target).crystals
    )


@pytest.mark.parametrize("model", ["tiny", "shipped"])
@pytest.mark.parametrize("space_group", ["any", "none"])
def test_a_chemical_system_has_each_of_its_elements_and_no_other(model, space_group, request):
    found = samples_of(
        request.getfixturevalue(model),
        chemical_system="S-Li-P",
        num_atoms="3..8",
        space_group=space_group,
    )
    assert {structure.chemical_system for structure in found} == {"Li-P-S"}
    assert len({structure.composition.reduced_formula for structure in found}) > 2


@pytest.mark.parametrize("model", ["tiny", "shipped"])
@pytest.mark.parametrize("space_group", ["any", "none"])
def test_a_formula_is_exact(model, space_group, request):
    found = samples_of(
        request.getfixturevalue(model),
        formula="LiFePO4",
        formula_units="1..2",
        space_group=space_group,
    )
    assert {structure.composition.reduced_formula for structure in found} == {"LiFePO4"}
    assert {len(structure) for structure in found} <= {7, 14}


def test_formula_units_are_what_fits_unless_stated(tiny):
    assert {len(s) for s in samples_of(tiny, formula="SrTiO3", steps=3)} <= {5, 10, 15, 20}
    assert {len(s) for s in samples_of(tiny, formula="SrTiO3", num_atoms="6..12", steps=3)} == {10}


@pytest.mark.parametrize("model", ["tiny", "shipped"])
def test_excluded_elements_never_occur(model, request):
    found = samples_of(
        request.getfixturevalue(model), exclude="O,Fe,toxic,scarce,radioactive", num_atoms="2..6"
    )
    for structure in found:
        assert not structure.composition.get("O")
        assert not structure.composition.get("Fe")
        assert not members(structure.composition, "radioactive")
        assert not members(structure.composition, "scarce")
        assert not {"As", "Be", "Cd", "Hg", "Pb", "Tl"} & set(structure.symbol_set)


def test_exclusion_narrows_a_list(tiny):
    found = samples_of(tiny, elements="Li,O,Pb", exclude="Pb", num_atoms="6", steps=3)
    assert set().union(*(structure.symbol_set for structure in found)) == {"Li", "O"}


def test_samples_do_not_depend_on_their_batch(tiny):
    target = asked(chemical_system="Li-P-S", exclude="toxic")
    together, alone = (
        sample(
            tiny,
            range(5),
            seed=3,
            options=SamplerOptions(steps=6, batch_size=size),
            target=target,
        ).crystals
        for size in (5, 1)
    )
    assert torch.equal(together.atomic_numbers, alone.atomic_numbers)
    torch.testing.assert_close(together.lattice, alone.lattice, rtol=2e-3, atol=2e-3)


def test_required_atoms_have_one_element_and_the_others_the_allowed_ones():
    request = Request(space_group="none", chemical_system="S-Li", num_atoms="2..4")
    constraints = parse_constraints(request)
    source = partial_crystal_sampler(constraints, tiny_config())
    partial_crystals = [source.draw(rng) for rng in sample_rngs(0, range(6))]
    batch = PartialCrystalBatch.of(partial_crystals, constraints.open_elements(ALL))
    for row, partial_crystal in zip(batch.allowed, partial_crystals, strict=True):
        assert row[0].nonzero().flatten().tolist() == [3]
        assert row[1].nonzero().flatten().tolist() == [16]
        for orbit in range(2, len(partial_crystal.elements)):
            assert row[orbit].nonzero().flatten().tolist() == [3, 16]


def test_without_constraints_any_seen_element_may_be_anywhere():
    seen = element_mask(["Na", "Cl"])
    assert torch.equal(Constraints().open_elements(seen), seen)
    assert Constraints().atom_counts(20) == list(range(1, 21))


@pytest.mark.parametrize("text", ["LiFePO4", "Ca5P3O13H", "C", "NaNaCl2", "Al2O3"])
def test_formulae_are_read_as_pymatgen_reads_them(text):
    counts = Counter(parse_formula(text))
    assert counts == {k: int(v) for k, v in Composition(text).get_el_amt_dict().items()}


def test_groups_of_elements_agree_with_the_judge():
    """What the credibility criterion flags is what `--exclude` keeps out."""
    groups = element_groups()
    for symbol in symbols()[1:]:
        composition = Composition(symbol)
        assert (symbol in groups["radioactive"]) == bool(members(composition, "radioactive"))
        assert symbol in groups["scarce"] or not members(composition, "scarce")
    assert groups["toxic"] == {"As", "Be", "Cd", "Hg", "Pb", "Tl"}
    assert {"Te", "Pt", "Au", "Tc"} <= groups["scarce"]
    assert len(groups["rare-earth"]) == 17
    assert {"Sc", "Y", "La", "Nd", "Lu"} <= groups["rare-earth"]
    assert not groups["rare-earth"] & {"Ba", "Hf", "Th", "Fe"}
    assert not groups["scarce"] & {"Li", "O", "Fe", "Ag", "In", "Se"}
    assert parse_elements("Pb, toxic,Li") == groups["toxic"] | {"Li"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elements": "Li,Qq"}, "unknown element 'Qq' in 'Li,Qq'"),
        ({"exclude": "nasty"}, "unknown element 'nasty'.*toxic, radioactive, scarce"),
        ({"chemical_system": "Li-Qq"}, "unknown element 'Qq'"),
        ({"formula": "Li(OH)2"}, r"formula 'Li\(OH\)2' is not of the form LiFePO4"),
        ({"formula": "Li0.5O"}, "formula 'Li0.5O' is not of the form"),
        ({"formula": "Li0O"}, "formula 'Li0O': expected 1 to"),
        ({"formula": "QqO"}, "unknown element 'Qq'"),
        ({"formula_units": "2"}, "formula-units '2' without a formula"),
        ({"formula": "LiCl", "formula_units": "2-3"}, "'2-3' is no whole number"),
        (
            {"formula": "PbTe", "exclude": "toxic"},
            r"PbTe .* contains Pb, ruled out by exclude Be, As",
        ),
        ({"formula": "LiFePO4", "elements": "Li,P,O"}, "contains Fe, ruled out by elements Li, O"),
        ({"formula": "LiCl", "chemical_system": "Li-O"}, "Cl, ruled out by chemical system Li-O"),
        ({"formula": "LiCl", "chemical_system": "Li-Cl-O"}, "O, ruled out by formula LiCl"),
        (
            {"chemical_system": "Li-O", "elements": "Li,P"},
            "contains O, ruled out by elements Li, P",
        ),
        ({"chemical_system": "Li-O", "exclude": "O"}, "Li-O contains O, ruled out by exclude O"),
        (
            {"elements": "Pb,Cd", "exclude": "toxic"},
            r"left of 100 .*: elements Cd, Pb; exclude Be, As",
        ),
    ],
)
def test_contradictions_name_the_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_constraints(Request(**arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_atoms": "4..500"}, r"number of atoms 4\.\.500: this model makes 1\.\.20"),
        ({"num_atoms": "0"}, r"no number of atoms is possible: number of atoms 0\.\.0"),
        ({"chemical_system": "Li-P-S-O", "num_atoms": "3"}, "Li, O, P, S take at least 4 atoms"),
        (
            {"formula": "LiFePO4", "formula_units": "1..4"},
            r"formula LiFePO4 \(1\.\.4 units of 7\): this model makes 1\.\.20 atoms",
        ),
        ({"formula": "Ca10P6O26H2"}, r"\(units of 44\): this model makes"),
        ({"formula": "LiFePO4", "num_atoms": "8..13"}, r"\(units of 7\); number of atoms 8\.\.13"),
        ({"elements": "Li,Xe"}, "this model has never seen Xe"),
        ({"chemical_system": "Li-Xe"}, "this model has never seen Xe"),
        ({"formula": "XeF2"}, "this model has never seen Xe"),
    ],
)
def test_what_a_model_cannot_do_is_said_before_sampling(tiny, arguments, message, monkeypatch):
    tiny.diffusion.allowed_elements[atomic_number("Xe")] = False
    monkeypatch.setattr(tiny, "predict_each", lambda *_: pytest.fail("sampling has begun"))
    with pytest.raises(ValueError, match=message):
        samples_of(tiny, **arguments)


def test_nothing_left_to_choose_from_is_an_error():
    excluded = ",".join(symbols()[1:])
    with pytest.raises(ValueError, match=r"no element is left of 100 .*: exclude H, He, Li"):
        parse_constraints(Request(exclude=excluded))


def test_a_host_counts_towards_a_formula(tiny, host_file):
    host = parse_host(host_file, "P,S", fix_lattice=True, insert=None)
    found = samples_of(tiny, count=4, steps=3, host=host, formula="Li3PS4")
    assert all(structure.composition.reduced_formula == "Li3PS4" for structure in found)
    assert all(structure.symbol_set == ("Li", "P", "S") for structure in found)
    doubled = samples_of(tiny, count=4, steps=3, host=host, formula="Li3PS4", formula_units="2")
    assert {len(structure) for structure in doubled} == {16}


def test_a_host_counts_towards_a_chemical_system(tiny, host_file):
    host = parse_host(host_file, "P,S", fix_lattice=True, insert="2")
    found = samples_of(tiny, count=8, steps=3, host=host, chemical_system="Li-P-S-Cl")
    assert {structure.chemical_system for structure in found} == {"Cl-Li-P-S"}


@pytest.mark.parametrize(
    ("host", "arguments", "message"),
    [
        (("P,S", False, "16"), {}, r"\(5 fixed sites, 16..16 atoms .*: this model makes"),
        (("all", True, None), {}, "nothing is left to sample"),
        (("P,S", True, None), {"formula": "Li3PO4"}, "contains S, ruled out by formula Li3PO4"),
        (("P,S", True, "1"), {"num_atoms": "9"}, "number of atoms 9..9; seed-structure li3ps4.cif"),
        (("P,S", True, "1"), {"chemical_system": "P-S-Li-O"}, "Li, O, P, S take at least 7 atoms"),
    ],
)
def test_impossible_hosts_name_the_values(host_file, host, arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_constraints(Request(**arguments), parse_host(host_file, *host)).atom_counts(20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "S"}, "seed-structure li3ps4.cif .* contains S, ruled out by exclude S"),
        ({"chemical_system": "Li-P-O"}, "contains S, ruled out by chemical system"),
    ],
)
def test_a_host_of_the_wrong_elements_is_an_error(host_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_constraints(Request(**arguments), parse_host(host_file, "P,S", True, None))


def test_a_host_may_have_elements_that_are_not_placed(tiny, host_file):
    host = parse_host(host_file, "P,S", fix_lattice=True, insert="2")
    for structure in samples_of(tiny, count=4, steps=3, host=host, elements="Na"):
        assert structure.composition["Na"] == 2


# A constraint that the package does not know


@dataclass(frozen=True, kw_only=True)
class EvenWithIron(Constraint):
    needed = frozenset({"Fe"})

    def __str__(self) -> str:
        return "an even number of atoms, two of them iron"

    def counts(self, max_atoms: int) -> range:
        return range(2, max_atoms + 1, 2)

    def required_atoms(self, num_atoms: int) -> Counter[str]:
        return Counter({"Fe": 2})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (TemplateSampler, {}),
        (TemplateSampler, {"space_group": "cubic", "exclude": "toxic"}),
        (FreeSampler, {"space_group": "none", "num_atoms": "1..9"}),
        (HostSampler, {"insert": "1..6"}),
        (HostSampler, {"insert": "1..6", "space_group": "none", "chemical_system": "Fe-P-S"}),
    ],
)
def test_a_new_kind_of_constraint_holds_whatever_partial_crystals_are_drawn_from(
    tiny, host_file, kind, arguments
):
    if "insert" in arguments:
        arguments |= {"seed_structure": host_file, "fix_sites": "P,S"}
    given = parse_constraints(Request(**arguments))
    constraints = Constraints(parts=(*given.parts, EvenWithIron()))
    source = partial_crystal_sampler(constraints, tiny.config, frameworks="known")
    assert type(source) is kind
    assert isinstance(source, PartialCrystalSampler)
    options, target = SamplerOptions(steps=3), Target(constraints=constraints)
    found = to_structures(sample(tiny, range(12), seed=0, options=options, target=target).crystals)
    assert all(len(structure) % 2 == 0 for structure in found)
    assert all(structure.composition["Fe"] >= 2 for structure in found)
    assert len({len(structure) for structure in found}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "Fe"}, "an even number of .* iron contains Fe, ruled out by exclude Fe"),
        ({"num_atoms": "7"}, "no number .*: number of atoms 7..7; an even number of atoms"),
        ({"chemical_system": "Fe-Li-O-P", "num_atoms": "4"}, "Li, O, P, Fe take at least 5 atoms"),
    ],
)
def test_a_new_kind_of_constraint_contradicts_the_others(arguments, message):
    given = parse_constraints(Request(**arguments))
    with pytest.raises(ValueError, match=message):
        Constraints(parts=(*given.parts, EvenWithIron())).atom_counts(20)


# Constraints on whole compositions


@dataclass(frozen=True, kw_only=True)
class EvenIron(Constraint):
    needed = frozenset({"Fe"})

    def __str__(self) -> str:
        return "an even number of iron"

    def accepts(self, atoms: Counter[str]) -> bool:
        return atoms["Fe"] % 2 == 0


@dataclass(frozen=True, kw_only=True)
class ThreeSulfur(EvenIron):
    needed = frozenset({"S"})

    def __str__(self) -> str:
        return "three sulfur"

    def accepts(self, atoms: Counter[str]) -> bool:
        return atoms["S"] == 3

    def required_atoms(self, num_atoms: int) -> Counter[str]:
        return Counter({"S": 3})


@dataclass(frozen=True, kw_only=True)
class TwoElements(EvenIron):
    needed = frozenset()

    def __str__(self) -> str:
        return "at most two elements"

    def accepts(self, atoms: Counter[str]) -> bool:
        return len(atoms) <= 2


@pytest.mark.parametrize(
    ("demand", "arguments", "frameworks"),
    [
        (EvenIron(), {"exclude": "toxic", "num_atoms": "4..8"}, "known"),
        (EvenIron(), {"space_group": "none", "num_atoms": "3..9"}, None),
        (ThreeSulfur(), {"num_atoms": "4..10"}, "known"),
        (ThreeSulfur(), {"space_group": "none", "num_atoms": "4..9"}, None),
        (TwoElements(), {}, "any"),
        (TwoElements(), {"num_atoms": "4..6"}, "drawn"),
        (TwoElements(), {"space_group": "none", "num_atoms": "3..9"}, None),
    ],
)
def test_constraints_on_compositions_hold(tiny, demand, arguments, frameworks):
    constraints = Constraints(parts=(*parse_constraints(Request(**arguments)).parts, demand))
    options = SamplerOptions(steps=2, frameworks=frameworks)
    target = Target(constraints=constraints)
    drawn = sample(tiny, range(6), seed=0, options=options, target=target)
    compositions = [structure.composition for structure in to_structures(drawn.crystals)]
    for composition in compositions:
        atoms = Counter({name: round(n) for name, n in composition.get_el_amt_dict().items()})
        assert demand.accepts(atoms)
        assert demand.needed <= atoms.keys()
    assert len({composition.reduced_formula for composition in compositions}) > 1
    again = sample(tiny, [4], seed=0, options=options, target=target)
    assert to_structures(again.crystals)[0].composition == compositions[4]


def test_constraints_on_compositions_hold_with_a_host(tiny, host_file):
    host = parse_host(host_file, "P,S", fix_lattice=True, insert="2..6")
    given = parse_constraints(Request(elements="Na,K,Fe"), host)
    target = Target(constraints=Constraints(parts=(*given.parts, EvenIron())))
    drawn = sample(tiny, range(6), seed=0, options=SamplerOptions(steps=2), target=target)
    assert all(found.composition["Fe"] in (2, 4, 6) for found in to_structures(drawn.crystals))


def test_compositions_that_are_never_accepted_are_an_error():
    given = parse_constraints(Request(formula="FeO", num_atoms="2"))
    constraints = Constraints(parts=(*given.parts, EvenIron()))
    source = partial_crystal_sampler(constraints, ModelConfig())
    with pytest.raises(ValueError, match="an even number of iron: none of 100 compositions"):
        source.draw(torch.Generator().manual_seed(0))


def test_fractions_are_shares_of_the_atoms():
    constraints = parse_constraints(Request(fraction=("Li=0.2..0.4", "O>0.5"), elements="Li,P,O"))
    assert constraints.required_atoms(10) == Counter({3: 2, 8: 5})  # by atomic number
    assert constraints.accepts(Counter(Li=3, P=1, O=4))
    assert not constraints.accepts(Counter(Li=1, P=1, O=4))  # too little lithium
    assert not constraints.accepts(Counter(Li=4, P=1, O=4))  # too much
    assert parse_constraints(Request(fraction="Li=0.333")).accepts(Counter(Li=1, O=2))


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        ("Li=1.2", "fraction Li=1.2: expected a share of the atoms from 0 to 1"),
        ("Li=a", "fraction Li=a: expected a share"),
        ("Xx=0.2", "Xx"),
        ("Li", "Li"),
        (("Li=0.6", "O>0.5"), "more than all atoms"),
    ],
)
def test_fractions_that_cannot_be_are_refused(fraction, message):
    with pytest.raises(ValueError, match=message):
        parse_constraints(Request(fraction=fraction))


@pytest.mark.parametrize("arguments", [{}, {"frameworks": "new"}, {"space_group": "none"}])
def test_every_sample_has_its_fraction(arguments):
    """With the shipped model; the diffusion changes no element that was drawn."""
    sampled = mattergen_lite.sample(
        "mp", num_samples=4, steps=3, fraction="O=0.4..0.7", elements="Li,Si,P,O", **arguments
    )
    shares = [structure.composition.get_atomic_fraction("O") for structure in sampled]
    assert len(shares) == 4
    assert all(0.399 <= share <= 0.701 for share in shares)


def test_must_contain_stands_beside_elements_that_may_occur():
    constraints = parse_constraints(Request(must_contain="Li", elements="P,S,Cl"))
    assert constraints.needed == {"Li"}
    opened = constraints.open_elements(ALL).nonzero().flatten().tolist()
    assert {symbols()[number] for number in opened} == {"Li", "P", "S", "Cl"}
    with pytest.raises(ValueError, match="must-contain Li contains Li, ruled out by exclude Li"):
        parse_constraints(Request(must_contain="Li", exclude="Li"))


@pytest.mark.parametrize("space_group", ["any", "none"])
def test_every_sample_has_what_it_must_contain(tiny, space_group):
    found = samples_of(
        tiny, must_contain="Li", elements="P,S,Cl", num_atoms="3..8", space_group=space_group
    )
    for structure in found:
        assert "Li" in structure.symbol_set
        assert {"Li", "P", "S", "Cl"}.issuperset(structure.symbol_set)


@pytest.mark.parametrize(
    ("counts", "neutral"),
    [
        ({"Li": 3, "Mg": 1, "Cl": 6}, False),
        ({"Li": 2, "Mg": 1, "Cl": 4}, True),
        ({"Li": 3, "P": 1, "S": 4}, True),
        ({"Li": 1, "Mg": 2}, True),  # an alloy
        ({"Na": 2, "O": 2}, False),  # a peroxide needs its bond
    ],
)
def test_stoichiometries_that_can_be_neutral(counts, neutral):
    assert can_be_neutral(counts) == neutral
