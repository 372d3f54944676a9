"""The examples of CONTRIBUTING.md, as they stand there."""

import re
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from models import tiny_model

import mattergen_lite
from mattergen_lite import cli
from mattergen_lite.options.judge import CHECK_NAMES
from mattergen_lite.runs.store import schema
from mattergen_lite.scoring.candidate import RELAXED_COLUMNS, Candidate
from mattergen_lite.scoring.energy.potentials import families
from mattergen_lite.scoring.score import Score, criteria_of

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example):
    assert "assert " in example
    exec(compile(example, "CONTRIBUTING.md", "exec"), {"__name__": "example"})


def test_there_is_an_example_of_each_kind():
    for kind in ("criterion", "property", "constraint", "potential"):
        assert f"**A {kind}**" in TEXT
    assert len(EXAMPLES) == 4


@dataclass(frozen=True, kw_only=True)
class Bonding:
    shortest_bond: float  # Å


@dataclass(frozen=True, kw_only=True)
class BondedScore(Score):
    bonding: Bonding | None = None


def test_a_field_of_score_is_all_that_a_criterion_needs():
    assert criteria_of(BondedScore)["bonding"] is Bonding
    empty, full = BondedScore(name="a"), BondedScore(name="b", bonding=Bonding(shortest_bond=2.8))
    assert list(empty.row()) == list(full.row())
    assert (empty.row()["shortest_bond"], full.row()["shortest_bond"]) == (None, 2.8)


def test_every_column_has_a_type_in_a_campaign_and_those_of_relaxed_crystals_exist():
    row = Candidate(raw=Score(name=""), structure=None).row()
    assert set(row) - {"rank"} <= set(schema({}).names)
    assert set(RELAXED_COLUMNS) <= set(Score(name="").row())


def test_every_check_has_an_outcome():
    everything = Candidate(raw=Score(name=""), structure=None).all_checks
    assert tuple(everything) == CHECK_NAMES


def test_what_runs_a_family_is_installed_by_the_package_or_an_extra():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for family in families.FAMILIES.values():
        extras = project["optional-dependencies"]
        wanted = extras[family.extra] if family.extra else project["dependencies"]
        assert any(re.split("[<>=]", one)[0] == family.distribution for one in wanted), family
        module, _, function = family.loader.partition(".")
        assert callable(getattr(import_module(f"{families.__package__}.{module}"), function))


SPINE = (
    TEXT.partition("## From the command to the CIF")[2].partition("```\n")[2].partition("```")[0]
)


def parents(tree: str) -> dict[str, str | None]:
    """The file that each file of an indented list stands under."""
    found: dict[str, str | None] = {}
    levels: list[str] = []
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        levels = [*levels[:depth], name]
        found[name] = levels[-2] if depth else None
    return found


def calls_between(files: set[str], run: Callable[[], object]) -> set[tuple[str, str]]:
    """Which of the files call which in this thread, through whatever other files."""
    root = f"{Path(mattergen_lite.__file__).parent}/"
    calls = set()

    def note(frame, event, argument):
        called = frame.f_code.co_filename.removeprefix(root)
        if event != "call" or called not in files or frame.f_code.co_name == "<module>":
            return
        while (frame := frame.f_back) is not None:
            caller = frame.f_code.co_filename.removeprefix(root)
            if caller in files:
                calls.add((caller, called))
                return

    sys.setprofile(note)
    try:
        with suppress(SystemExit):  # how a command ends
            run()
    finally:
        sys.setprofile(None)
    return {(caller, called) for caller, called in calls if caller != called}


def test_generate_goes_down_from_the_command_to_the_cif(tmp_path, monkeypatch):
    """Every step of the list is a call from the file above it, and no file calls one above it."""
    above = parents(SPINE)
    assert len(above) == 11
    tiny_model().save(tmp_path / "model")
    words = ["generate", "--num-samples", "1", "--num-atoms", "1", "--steps", "2", "--no-relax"]
    words += ["--num-workers", "0", "--device", "cpu"]
    folders = ["--checkpoint", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["mattergen-lite", *words, *folders])
    calls = calls_between(set(above), cli.app)
    assert list((tmp_path / "out" / "cifs").glob("*.cif"))
    assert {(parent, name) for name, parent in above.items() if parent} <= calls
    for caller, called in calls:
        ancestors, place = [], caller
        while (place := above[place]) is not None:
            ancestors.append(place)
        assert called not in ancestors, f"{caller} calls back {called}"
