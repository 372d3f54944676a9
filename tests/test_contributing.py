"""The examples of CONTRIBUTING.md, as they stand there."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from mattergen_lite.campaign.parts import schema
from mattergen_lite.options.judge import CHECK_NAMES
from mattergen_lite.scoring.candidate import RELAXED_COLUMNS, Candidate
from mattergen_lite.scoring.energy.potentials.sources import families
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
    assert set(row) - {"rank"} <= set(schema().names)
    assert set(RELAXED_COLUMNS) <= set(Score(name="").row())


def test_every_check_has_an_outcome():
    everything = Candidate(raw=Score(name=""), structure=None).all_checks
    assert tuple(everything) == CHECK_NAMES


def test_what_runs_a_family_is_installed_by_the_package_or_an_extra():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for family in families().values():
        extras = project["optional-dependencies"]
        wanted = extras[family.extra] if family.extra else project["dependencies"]
        assert any(re.split("[<>=]", one)[0] == family.distribution for one in wanted), family
