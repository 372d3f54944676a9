"""A result cache answers from disk what it has answered before, to the last bit."""

import math
from functools import partial
from pathlib import Path

import pytest
from crystals import nacl, rutile, triclinic
from pydantic import TypeAdapter

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.energy.relaxation import Relaxation
from mattergen_lite.scoring.energy.stability import Measurement
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.score import Score, score


def divide(item: float, *, log: str, by: float = 1.0) -> float:
    with Path(log).open("a") as file:
        file.write(f"{item}\n")
    return item / by


def question(log: Path, by: float = 1.0) -> CachedTask:
    function = partial(divide, log=str(log), by=by)
    return CachedTask(function, str, TypeAdapter(float), "divide", 30.0)


def test_answers_are_worked_out_once(tmp_path):
    log, path = tmp_path / "log", tmp_path / "journal.jsonl"
    with Pool(0) as pool:
        first = ResultCache(pool, path).ask(question(log), [1.0, 2.0])
        second = ResultCache(pool, path).ask(question(log), [2.0, 3.0, 1.0])
    assert first == [1.0, 2.0]
    assert second == [2.0, 3.0, 1.0]
    assert log.read_text().split() == ["1.0", "2.0", "3.0"]


def test_other_settings_are_another_question(tmp_path):
    log, path = tmp_path / "log", tmp_path / "journal.jsonl"
    with Pool(0) as pool:
        ResultCache(pool, path).ask(question(log), [6.0])
        assert ResultCache(pool, path).ask(question(log, by=2.0), [6.0]) == [3.0]


def test_failures_are_tried_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Pool(0) as pool:
        (failed,) = ResultCache(pool, path).ask(question(tmp_path / "log", by=0.0), [1.0])
    assert failed == Failure("ZeroDivisionError: float division by zero")
    assert not path.exists()


def test_a_line_cut_short_costs_only_itself(tmp_path):
    log, path = tmp_path / "log", tmp_path / "journal.jsonl"
    with Pool(0) as pool:
        ResultCache(pool, path).ask(question(log), [1.0, 2.0])
        path.write_text(path.read_text()[:-5])
        assert ResultCache(pool, path).ask(question(log), [1.0, 2.0]) == [1.0, 2.0]
        assert ResultCache(pool, path).ask(question(log), [1.0, 2.0]) == [1.0, 2.0]
    assert log.read_text().split() == ["1.0", "2.0", "2.0"]


@pytest.mark.parametrize(
    "damage",
    ["[1, 2]", "7", '{"key": "a"}', "\x00\x00", '{"key": 1, "answer": 1}', "[" * 100_000, "null"],
)
def test_lines_of_another_shape_are_worked_out_again(tmp_path, damage):
    log, path = tmp_path / "log", tmp_path / "journal.jsonl"
    path.write_text(damage)
    with Pool(0) as pool:
        assert ResultCache(pool, path).ask(question(log), [1.0]) == [1.0]
        spoilt = path.read_text().replace('"answer": 1.0', '"answer": {"x": []}')
        path.write_text(spoilt)
        assert ResultCache(pool, path).ask(question(log), [1.0]) == [1.0]
    assert log.read_text().split() == ["1.0", "1.0"]


def test_a_journal_that_leads_elsewhere_is_replaced(tmp_path):
    """A run folder of a stranger: nothing is appended to what its link names."""
    log, path, victim = tmp_path / "log", tmp_path / "journal.jsonl", tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with Pool(0) as pool:
        assert ResultCache(pool, path).ask(question(log), [1.0]) == [1.0]
        assert ResultCache(pool, path).ask(question(log), [1.0]) == [1.0]
    assert victim.read_text() == "precious"
    assert log.read_text().split() == ["1.0"]


def test_a_journal_of_a_newer_version_is_one_line(tmp_path):
    log, path = tmp_path / "log", tmp_path / "journal.jsonl"
    path.write_text('{"format": 2, "key": "a", "answer": 1.0}')
    with Pool(0) as pool, pytest.raises(ValueError, match=r"format 2, .* remove the file"):
        ResultCache(pool, path).ask(question(log), [1.0])


def test_scores_survive_the_journal(tmp_path):
    records = [StructureRecord(make.__name__, make()) for make in (nacl, rutile, triclinic)]
    records.append(StructureRecord("broken", None, "cannot parse"))
    path = tmp_path / "journal.jsonl"
    with Pool(0) as pool:
        first = score(records, result_cache=ResultCache(pool, path))
        again = score(records, result_cache=ResultCache(pool, path))
    assert len(path.read_text().split("\n")) == 5
    assert again == first
    assert all(isinstance(one, Score) for one in again)


def test_measurements_survive_the_journal_to_the_last_bit():
    adapter = TypeAdapter(Measurement)
    measured = Measurement(
        relaxed_with="chgnet",
        relaxation=Relaxation(structure=triclinic(), energy_per_atom=-3.3333333333333335),
        energies_per_atom={"chgnet": -3.3333333333333335},
        errors={},
    )
    again = adapter.validate_python(adapter.dump_python(measured, mode="json"))
    assert again.energies_per_atom == measured.energies_per_atom
    assert math.isnan(again.relaxation.rmsd)
    assert math.isnan(again.hull_energy_per_atom)
    assert structure_identity(again.relaxation.structure) == structure_identity(triclinic())
