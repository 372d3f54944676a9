"""What judged crystals teach: which of them, with which energy, and how often."""

from dataclasses import replace

import pytest
import torch
from crystals import nacl, rutile
from pymatgen.core import Structure

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.screening import Screening
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.score import Score, score
from mattergen_lite.workflows.learning import (
    REPEATS,
    judged_crystals,
    training_rows,
    worth_teaching,
)


def unbalanced() -> Structure:
    """Na6Cl2 on the sites of rock salt."""
    return Structure(nacl().lattice, ["Na"] * 6 + ["Cl"] * 2, nacl().frac_coords)


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    """Crystals as if the reference did not know them."""
    crystals = {"salt": nacl(), "rutile": rutile(), "unbalanced": unbalanced()}
    records = [StructureRecord(name, crystal) for name, crystal in crystals.items()]
    with Pool(0) as pool:
        judged = score(records, result_cache=ResultCache(pool))
    return {one.name: replace(one, novelty=replace(one.novelty, is_novel=True)) for one in judged}


def screened(raw: Score, structure: Structure, energy: float) -> Candidate:
    return Candidate(
        raw=raw, structure=structure, screening=Screening(screening_e_above_hull=energy)
    )


def relaxed(raw: Score, structure: Structure, energy: float, probability: float) -> Candidate:
    return replace(
        screened(raw, nacl(), 0.3),
        relaxed=raw,
        relaxed_structure=structure,
        stability=Stability(e_above_hull=energy, probability_metastable=probability),
    )


def test_a_crystal_stands_there_as_it_relaxed_with_its_energy(scores):
    swollen = nacl().scale_lattice(200.0)
    table = judged_crystals(
        [relaxed(scores["salt"], swollen, 0.02, 0.9), screened(scores["rutile"], rutile(), 0.4)],
        prefix="03",
        split="train",
        max_atoms=20,
    )
    assert table["material_id"].to_pylist() == ["03-salt", "03-rutile"]
    assert table["split"].to_pylist() == ["train", "train"]
    assert table["e_above_hull"].to_pylist() == pytest.approx([0.02, 0.4])
    assert table["likely_metastable"].to_pylist() == [1.0, 0.0]
    cell = torch.tensor(table["lattice"].to_pylist()[0]).view(3, 3)
    assert torch.linalg.det(cell).item() == pytest.approx(200.0 / 4, rel=1e-3)


def test_an_energy_below_the_hull_is_taught_as_on_it_and_none_as_unknown(scores):
    candidates = [
        relaxed(scores["salt"], nacl(), -0.05, 0.99),
        Candidate(raw=scores["rutile"], structure=rutile()),
    ]
    table = judged_crystals(candidates, "00", "extra", max_atoms=20)
    assert table["e_above_hull"].to_pylist() == [0.0, None]


def test_what_is_known_or_without_a_sensible_energy_teaches_nothing(scores):
    salt = scores["salt"]
    known = replace(salt, novelty=replace(salt.novelty, is_novel=False))
    twin = replace(salt, novelty=replace(salt.novelty, is_unique=False))
    new = screened(salt, nacl(), 0.1)
    assert worth_teaching(
        [
            new,
            screened(known, nacl(), 0.1),
            screened(twin, nacl(), 0.1),
            replace(relaxed(salt, nacl(), 0.0, 0.9), relaxed=known),
            screened(salt, nacl(), 2.5),
            Candidate(raw=salt, structure=nacl()),
        ]
    ) == [new]


def test_good_crystals_are_repeated_and_unbalanced_ones_left_out(scores):
    candidates = [
        relaxed(scores["salt"], nacl(), 0.0, 0.9),
        screened(scores["rutile"], rutile(), 0.5),
        screened(scores["unbalanced"], unbalanced(), 0.5),
    ]
    taught = training_rows(judged_crystals(candidates, "00", "extra", max_atoms=20))
    names = taught["material_id"].to_pylist()
    bad, good = REPEATS
    assert names.count("00-salt") == good > bad == names.count("00-rutile")
    assert set(names) == {"00-salt", "00-rutile"}
    assert "likely_metastable" not in taught.column_names
