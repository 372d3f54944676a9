"""Scoring many structures: broken ones become error rows, workers change nothing."""

import numpy as np
import pytest
from crystals import li3ps4, nacl, quartz, rutile, single_atom, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.scoring import score as scoring
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.score import Score

CRYSTALS = (nacl, rutile, quartz, li3ps4, triclinic, single_atom)


def score(
    records: list[StructureRecord], *, num_workers: int = 0, reference: Reference | None = None
) -> list[Score]:
    with Pool(num_workers) as pool:
        return scoring.score(records, result_cache=ResultCache(pool), reference=reference)


def record(name: str, structure: Structure | None, error: str | None = None) -> StructureRecord:
    return StructureRecord(name, structure, error)


def broken_records() -> list[StructureRecord]:
    cell = Lattice.cubic(3)
    return [
        record("unreadable", None, "cannot parse"),
        record("disordered", Structure(cell, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])),
        record("not finite", Structure(cell, ["Na"], [[np.nan, 0, 0]])),
        record("flat", Structure(Lattice([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), ["Na"], [[0, 0, 0]])),
        record("overlap", Structure(cell, ["Na", "Na"], [[0, 0, 0], [0.001, 0, 0]])),
    ]


def test_one_row_per_crystal():
    (scored,) = score([record("salt", nacl())], num_workers=2)
    row = scored.row()
    assert row["name"] == "salt"
    assert row["formula"] == "NaCl"
    assert row["num_atoms"] == 8
    assert row["chemical_system"] == "Cl-Na"
    assert row["space_group"] == 225
    assert row["space_groups"] == "0.01:225 0.03:225 0.1:225"
    assert row["charge_verdict"] == "neutral"
    assert row["smact_sets"] == "smact14; icsd16; icsd24"
    assert row["density"] == pytest.approx(2.107, abs=1e-3)
    assert row["is_unique"] is True
    assert row["is_novel"] is None
    assert row["flags"] == ""
    assert row["error"] is None


def test_the_first_by_name_is_unique_wherever_it_stands():
    records = [record(f"a{number}", rutile()) for number in (2, 10, 9)]
    for order in (records, records[::-1]):
        found = {one.name: one.novelty.duplicate_of for one in score(order)}
        assert found == {"a2": "", "a9": "a2", "a10": "a2"}


def test_reference_and_batch_are_compared():
    reference = Reference.from_records([record("mp-1", rutile())], name="test")
    records = [record("one", rutile()), record("two", rutile() * (1, 1, 2)), record("salt", nacl())]
    one, two, salt = score(records, reference=reference)
    assert one.novelty.nearest_known == "mp-1"
    assert two.novelty.duplicate_of == "one"
    assert salt.novelty.is_novel
    assert salt.row()["flags"] == "unknown_chemical_system"


def test_broken_structures_become_error_rows():
    scores = score([record("salt", nacl()), *broken_records()])
    errors = {scored.name: scored.error for scored in scores}
    assert errors["salt"] is None
    assert errors["unreadable"] == "cannot parse"
    assert "partially occupied (K:0.5, Na:0.5)" in errors["disordered"]
    assert "not finite" in errors["not finite"]
    assert "singular" in errors["flat"]
    assert errors["overlap"] is None  # it was read
    assert {tuple(scored.row()) for scored in scores} == {tuple(Score(name="").row())}


@pytest.mark.parametrize("distance", [0.0, 0.001, 0.09])
def test_atoms_in_one_place_are_a_crystal_that_is_not_physical(distance):
    """It was read, so it is judged: spglib, which finds nothing in it, is not asked to be right."""
    salt = nacl()
    salt.append("Na", [distance / salt.lattice.a, 0, 0])
    (found,) = score([record("overlap", salt)])
    assert found.error is None
    assert found.symmetry is None
    assert found.validity.physical_problem.startswith("Na-Na overlap: 0.0")
    assert found.novelty.is_unique
    judged = Candidate(raw=found, structure=salt)
    assert judged.checks["readable"]
    assert {"physical"} <= {*judged.failed}
    assert judged.verdict.startswith("fails: physical")
    assert f"; Na-Na overlap: {distance:.2f} Å, " in judged.verdict


def test_parallel_equals_serial():
    records = [record(crystal.__name__, crystal()) for crystal in CRYSTALS] + broken_records()
    assert score(records, num_workers=2) == score(records)


def test_oxidation_states_of_the_input_are_ignored():
    decorated = nacl()
    decorated.add_oxidation_state_by_element({"Na": 3, "Cl": -1})
    assert score([record("", decorated)]) == score([record("", nacl())])
