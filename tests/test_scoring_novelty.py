"""Duplicates, known structures and ordered forms of disordered phases are recognised."""

from itertools import combinations

import numpy as np
import pytest
from crystals import li3ps4, nacl, nacl_primitive, perovskite, quartz, rutile, triclinic
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.criteria import matching
from mattergen_lite.scoring.criteria.matching import (
    Comparison,
    Matches,
    ReducedCrystal,
    find_equal,
    reduce_crystal,
)
from mattergen_lite.scoring.criteria.novelty import Novelty, novelty
from mattergen_lite.scoring.known.reference import Reference, composition_key, known_structures


def trirutile() -> Structure:
    """TaCr2O6: rutile with Ta and Cr ordered along c, 18 atoms, P4_2/mnm."""
    return Structure.from_spacegroup(
        "P4_2/mnm",
        Lattice.tetragonal(4.64, 9.05),
        ["Ta", "Cr", "O", "O"],
        [[0, 0, 0], [0, 0, 0.333], [0.305, 0.305, 0], [0.30, 0.30, 0.333]],
    )


def rutile_of(cation: str) -> Structure:
    return rutile().replace_species({"Ti": cation})


def judged(structures: dict[str, Structure], reference: Reference | None) -> dict[str, Novelty]:
    with Pool(0) as pool:
        found = novelty(list(structures.values()), list(structures), reference=reference, pool=pool)
    return dict(zip(structures, found, strict=True))


def reference_of(structures: dict[str, Structure]) -> Reference:
    records = [StructureRecord(name, structure, None) for name, structure in structures.items()]
    return Reference.from_records(records, name="test")


def disguises(structure: Structure) -> dict[str, Structure]:
    """The same crystal in other cells, places and orientations, and slightly rattled."""
    rotation = SymmOp.from_axis_angle_and_translation([1, 2, 3], 40)
    translated = structure.copy().translate_sites(range(len(structure)), [0.13, 0.27, 0.41])
    return {
        "itself": structure,
        "supercell": structure * (2, 1, 1),
        "translated": translated,
        "rotated": structure.copy().apply_operation(rotation),
        "shuffled": Structure.from_sites(list(structure)[::-1]),
        "expanded": structure.copy().scale_lattice(1.1 * structure.volume),
        "rattled": structure.copy().perturb(0.05, seed=0),
    }


@pytest.mark.parametrize("crystal", [nacl, rutile, li3ps4, triclinic])
def test_disguises_are_duplicates_of_the_first(crystal):
    found = judged(disguises(crystal()), None)
    assert found["itself"].is_unique
    for name in set(found) - {"itself"}:
        assert not found[name].is_unique, name
        assert found[name].duplicate_of == "itself"


def test_without_a_reference_novelty_is_not_judged():
    (found,) = judged({"salt": nacl()}, None).values()
    assert found.is_novel is None
    assert found.known_chemical_system is None


def test_different_structures_of_one_composition_are_unique():
    caesium_chloride = Structure(Lattice.cubic(3.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = judged(
        {"rock salt": nacl(), "CsCl type": caesium_chloride}, reference_of({"known": nacl()})
    )
    assert all(novel.is_unique for novel in found.values())
    assert not found["rock salt"].is_novel
    assert found["CsCl type"].is_novel
    assert found["CsCl type"].num_known_polymorphs == 1


def test_known_structures_are_found_whatever_their_cell():
    known = {crystal.__name__: crystal() for crystal in (nacl_primitive, rutile, quartz)}
    found = judged({**disguises(nacl()), "new": li3ps4()}, reference_of(known))
    assert found["new"].is_novel
    assert not found["new"].known_chemical_system
    for name in disguises(nacl()):
        assert found[name].nearest_known == "nacl_primitive"
        assert found[name].known_chemical_system
    assert found["itself"].rms_distance == pytest.approx(0, abs=1e-6)


def test_distance_from_the_known_structure():
    moved = li3ps4().translate_sites([7], [0, 0, 0.1], frac_coords=False)
    found = judged({"moved": moved}, reference_of({"known": li3ps4()}))["moved"]
    # One of eight atoms moved by 0.1 Å, after the common translation that matches best.
    assert found.rms_distance == pytest.approx(0.1 * 7**0.5 / 8, rel=1e-3)


def test_nearest_of_several_matches_is_named():
    known = {"far": quartz().perturb(0.1, seed=1), "near": quartz().perturb(0.01, seed=1)}
    assert judged({"query": quartz()}, reference_of(known))["query"].nearest_known == "near"


@pytest.mark.parametrize("cation", ["Cr", "Ta"])
def test_ordered_form_of_a_disordered_phase_is_recognised(cation):
    found = judged({"TaCr2O6": trirutile()}, reference_of({"known": rutile_of(cation)}))["TaCr2O6"]
    assert found.is_novel
    assert not found.is_novel_with_disorder
    assert found.disordered_form_of == "known"
    assert found.mixed_elements == "Cr/Ta"


def test_unlike_elements_are_not_merged():
    found = judged({"TaCr2O6": trirutile()}, reference_of({"known": rutile_of("Pb")}))["TaCr2O6"]
    assert found.is_novel_with_disorder


def test_embedded_reference_knows_textbook_crystals():
    reference = Reference.embedded()
    crystals = {"salt": nacl(), "rutile": rutile(), "Li3PS4": li3ps4(), "TaCr2O6": trirutile()}
    found = judged({**crystals, "nonsense": triclinic()}, reference)
    assert found["Li3PS4"].nearest_known == "mp-2646995"
    assert found["salt"].nearest_known == "mp-22862"
    assert not found["rutile"].is_novel
    assert not found["TaCr2O6"].is_novel_with_disorder
    assert found["nonsense"].is_novel_with_disorder
    assert not found["nonsense"].known_chemical_system


def test_parallel_equals_serial():
    structures = {**disguises(rutile()), **{f"q{i}": quartz() for i in range(3)}}
    reference = reference_of({"rutile": rutile()})
    with Pool(0) as here, Pool(2) as elsewhere:
        results = [
            novelty(list(structures.values()), list(structures), reference=reference, pool=pool)
            for pool in (here, elsewhere)
        ]
    assert results[0] == results[1]


def test_distances_do_not_depend_on_earlier_comparisons():
    """pymatgen takes structures that agree to 1e-8 for the same, and remembers one for all."""
    crystals, known = disguises(rutile()), reference_of({"rutile": rutile()})
    alike = {name: one.copy().perturb(3e-9, seed=1) for name, one in crystals.items()}
    judged(alike, known)
    afterwards = judged(crystals, known)
    with Pool(1) as fresh:
        found = novelty(list(crystals.values()), list(crystals), reference=known, pool=fresh)
    assert list(afterwards.values()) == found


class BrokenPool(Pool):
    """Gives no result of tasks that hold silicon."""

    def map(self, function, items, **limits):
        for item in items:
            is_broken = function is not reduce_crystal and "14" in str(item)
            yield Failure("no result within 1 s") if is_broken else function(item)


def test_what_is_not_compared_is_unknown_and_costs_nothing_else():
    crystals = {"a": quartz(), "b": quartz(), "c": rutile(), "d": rutile()}
    reference = reference_of({"quartz": quartz()})
    found = novelty(
        list(crystals.values()), list(crystals), reference=reference, pool=BrokenPool(0)
    )
    assert [one.is_unique for one in found] == [None, None, True, False]
    assert [one.is_novel for one in found] == [None, None, True, True]
    assert [one.is_unknown for one in found] == [True, True, False, False]
    assert (
        found[0].not_compared == "uniqueness: no result within 1 s; novelty: no result within 1 s"
    )
    assert not found[2].not_compared


def test_comparisons_for_which_there_is_no_time_are_counted(monkeypatch):
    monkeypatch.setattr(matching, "QUERY_TIME_LIMIT", -1.0)
    crystal = ReducedCrystal.from_structure(quartz())
    (found,) = find_equal(Comparison([crystal], [crystal] * 3))
    assert found == Matches(None, "3 of 3 comparisons took too long")


def random_crystals(number: int) -> list[Structure]:
    """Ten kinds of random SiO2, in copies that are rattled, strained and in other cells."""
    rng = np.random.default_rng(1)
    kinds = []
    for _ in range(10):
        lattice = Lattice(np.diag(rng.uniform(3.5, 5.5, 3)) + rng.uniform(-1, 1, (3, 3)))
        kinds.append(Structure(lattice, ["Si"] * 2 + ["O"] * 4, rng.uniform(size=(6, 3))))
    copies = []
    for turn in range(number):
        copy = kinds[turn % 10].copy().perturb(rng.uniform(0, 0.6), seed=turn)
        copy.apply_strain(rng.uniform(-0.1, 0.1, 3))
        copies.append(copy)
    return copies


def test_the_number_of_unique_crystals_depends_on_neither_order_nor_names():
    crystals = random_crystals(60)
    counts = set()
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(crystals))
        found = judged({f"{seed}-{i}": crystals[i] for i in order}, None)
        counts.add(sum(one.is_unique for one in found.values()))
        for name, one in found.items():
            assert one.is_unique or list(found).index(one.duplicate_of) < list(found).index(name)
    assert len(counts) == 1


@pytest.mark.parametrize("crystals", [random_crystals(40), [*disguises(nacl()).values(), quartz()]])
def test_pairs_are_judged_as_pymatgen_judges_them(crystals):
    """What is ruled out beforehand is nothing that `StructureMatcher` calls equal."""
    reduced = [ReducedCrystal.from_structure(one) for one in crystals]
    plain = [
        Structure(one.lattice * one.length, one.atomic_numbers, one.frac_coords) for one in reduced
    ]
    matcher = StructureMatcher(primitive_cell=False)
    found = set()
    for one, other in combinations(range(len(crystals)), 2):
        (ours,) = find_equal(Comparison([reduced[other]], [reduced[one]]))
        theirs = matcher.fit(plain[one], plain[other], skip_structure_reduction=True)
        assert (ours.best is not None) == bool(theirs)
        found.add(bool(theirs))
    assert found == {True, False}


def test_composition_key_ignores_the_cell():
    assert composition_key(nacl().atomic_numbers) == composition_key([17, 11]) == ((11, 1), (17, 1))


def test_reference_rows_are_the_structures_given():
    reference = reference_of({"salt": nacl(), "quartz": quartz()})
    assert len(reference) == 2
    assert np.allclose(reference.crystal(1).frac_coords, quartz().frac_coords)
    assert reference.crystal(1).structure().formula == quartz().formula
    with pytest.raises(ValueError, match="no readable structure"):
        Reference.from_records([StructureRecord("x", None, "broken")], name="empty")


def caesium(kind: str, edge: float) -> Structure:
    places = {"bcc": [[0, 0, 0], [0.5, 0.5, 0.5]], "simple": [[0, 0, 0]]}[kind]
    return Structure(Lattice.cubic(edge), ["Cs"] * len(places), places)


def calcium_gallium_selenide() -> Structure:
    """CaGa2Se4 in a defect chalcopyrite's cell; the table has no structure of mp-13873."""
    return Structure.from_spacegroup(
        "I-4",
        Lattice.tetragonal(6.0, 11.4),
        ["Ca", "Ga", "Ga", "Se"],
        [[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0.25], [0.27, 0.26, 0.14]],
    )


def test_known_is_what_the_table_or_the_hull_has():
    """Elements are known; a composition of the hull without a structure here is not novel."""
    crystals = {
        "bcc": caesium("bcc", 6.14),
        "simple": caesium("simple", 5.2),
        "selenide": calcium_gallium_selenide(),
        "new": rutile_of("Cs"),
    }
    found = judged(crystals, known_structures([]))
    assert found["bcc"].nearest_known == "Cs"
    assert found["bcc"].is_novel is False
    assert found["simple"].is_novel is False or found["simple"].num_known_polymorphs == 1
    selenide = found["selenide"]
    assert (selenide.is_novel, selenide.known_composition) == (None, "mp-13873")
    assert selenide.known_chemical_system
    assert not selenide.is_unknown
    assert not found["new"].known_composition


def test_polymorphs_are_told_apart_by_their_space_groups_where_that_is_wanted():
    """Four forms of one perovskite, each a small shift of titanium away from the next."""
    shifts = {"cubic": [0, 0, 0], "P4mm": [0, 0, 1], "Amm2": [0, 1, 1], "R3m": [1, 1, 1]}
    forms = {}
    for name, shift in shifts.items():
        form = perovskite()
        titanium = next(i for i, site in enumerate(form) if site.specie.symbol == "Ti")
        forms[name] = form.translate_sites([titanium], 0.03 * np.array(shift))
    reference = reference_of({"known P4mm": forms["P4mm"]})
    names, structures = list(forms), list(forms.values())
    with Pool(0) as pool:
        merged = novelty(structures, names, reference=reference, pool=pool)
        apart = novelty(structures, names, reference=reference, pool=pool, polymorphs=True)
    assert [one.is_unique for one in merged] == [True, False, False, False]
    assert {one.nearest_known for one in merged} == {"known P4mm"}
    assert [one.is_unique for one in apart] == [True] * 4
    assert [one.nearest_known for one in apart] == ["", "known P4mm", "", ""]
