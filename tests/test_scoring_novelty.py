"""Duplicates, known structures and ordered forms of disordered phases are recognised."""

import numpy as np
import pytest
from crystals import li3ps4, nacl, nacl_primitive, quartz, rutile, triclinic
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.criteria.novelty import Novelty, novelty
from mattergen_lite.scoring.known.reference import Reference, composition_key


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


def test_a_comparison_that_breaks_costs_only_its_composition(monkeypatch):
    def broken(crystals: object) -> object:
        raise RuntimeError("matcher is broken")

    monkeypatch.setattr("mattergen_lite.scoring.criteria.novelty.find_duplicates", broken)
    found = judged({"a": nacl(), "b": nacl(), "c": rutile()}, None)
    assert found["a"] == found["b"] == Failure("RuntimeError: matcher is broken")
    assert found["c"].is_unique


def test_composition_key_ignores_the_cell():
    assert composition_key(nacl().atomic_numbers) == composition_key([17, 11]) == ((11, 1), (17, 1))


def test_reference_rows_are_the_structures_given():
    reference = reference_of({"salt": nacl(), "quartz": quartz()})
    assert len(reference) == 2
    assert np.allclose(reference.crystal(1).frac_coords, quartz().frac_coords)
    assert reference.crystal(1).structure().formula == quartz().formula
    with pytest.raises(ValueError, match="no readable structure"):
        Reference.from_records([StructureRecord("x", None, "broken")], name="empty")
