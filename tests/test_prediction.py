"""Prediction of structures and completion of hosts: recovering what is known is a success."""

import json
from dataclasses import replace

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, perovskite, rutile
from pymatgen.core import Lattice, Structure

from mattergen_lite.commands.complete import complete
from mattergen_lite.commands.data import data_show
from mattergen_lite.commands.predict import predict
from mattergen_lite.data.materials import known_value
from mattergen_lite.hub import find_checkpoint, read_config
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.request import Request
from mattergen_lite.processes import Pool
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.runs.judging import JudgingRun
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.criteria.novelty import Novelty
from mattergen_lite.scoring.energy.screening import Screening
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.expectation import expectation
from mattergen_lite.scoring.metrics.landscape import Basin, Landscape, landscape, num_needed
from mattergen_lite.scoring.score import Score, score
from mattergen_lite.workflows.cell_sizes import in_proportion, plan_cells
from mattergen_lite.workflows.csp import TargetStructure, _known_first, _lowest_energy
from mattergen_lite.workflows.csp import predict as predict_structures
from mattergen_lite.workflows.csp_report import Recovery

FAST = {"checkpoint": "tiny", "steps": 4, "relax": False, "num_workers": 0, "device": "cpu"}


def cscl() -> Structure:
    return Structure(Lattice.cubic(3.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def candidates(structures, energies, goal):
    """Judged together, as if each had relaxed to itself with this energy above the hull."""
    records = [StructureRecord(f"{i:02d}", one) for i, one in enumerate(structures)]
    known = Reference.from_records([StructureRecord("rock salt", nacl())], name="known")
    with Pool(0) as pool:
        scores = score(records, result_cache=ResultCache(pool, progress=False), reference=known)
    return [
        Candidate(
            raw=replace(one, novelty=replace(one.novelty, is_unique=True, duplicate_of="")),
            structure=structure,
            relaxed=one,
            relaxed_structure=structure,
            stability=Stability(e_above_hull_raw=energy, probability_metastable=0.5),
            goal=goal,
        )
        for one, structure, energy in zip(scores, structures, energies, strict=True)
    ]


@pytest.fixture(scope="module")
def salts():
    structures = [cscl(), nacl_primitive(), nacl(), cscl().scale_lattice(45)]
    return structures, [0.12, 0.002, 0.004, 0.11]


def test_the_lowest_energy_is_first_and_what_is_known_does_not_fail(salts):
    first = ranked(candidates(*salts, "predict"), ("readable", "physical"))[0]
    assert first.energy == 0.002
    assert "novel" not in first.checks
    assert "known as rock salt, 0.00 Å away" in first.verdict
    assert "novel" in candidates(*salts, "discover")[2].failed


def test_novelty_cannot_be_required_where_the_known_is_hoped_for():
    options = JudgeOptions(require="novel")
    assert options.checks(has_targets=False) == ("novel",)
    with pytest.raises(ValueError, match="to predict, a known crystal is a success"):
        options.checks(has_targets=False, goal="predict")
    assert "metastable" not in JudgeOptions().checks(has_targets=False, goal="complete")


def test_landscape_counts_how_often_each_structure_was_found(salts):
    seen = landscape(candidates(*salts, "predict"))
    assert [(basin.best.energy, basin.num_found) for basin in seen.basins] == [
        (0.002, 2),
        (0.11, 2),
    ]
    assert seen.chance_of_new == 0.0
    assert seen.num_more == 0
    structures, energies = salts
    once = landscape(candidates(structures[:3], energies[:3], "predict"))
    assert once.chance_of_new == pytest.approx(1 / 3)  # one of three samples was found once
    assert once.num_more == 17  # 3 (0.333 / 0.05 - 1)


def test_what_equals_one_known_crystal_is_one_structure(salts):
    """Equality within a tolerance is not transitive: both equal rock salt, not each other."""
    structures, energies = salts
    apart = [
        replace(
            one,
            relaxed=replace(
                one.relaxed, novelty=replace(one.relaxed.novelty, duplicate_of="", is_unique=True)
            ),
        )
        for one in candidates(structures[:3], energies[:3], "predict")
    ]
    seen = landscape(apart)
    assert [(basin.best.raw.name, basin.num_found) for basin in seen.basins] == [
        ("01", 2),
        ("00", 1),
    ]


def test_samples_needed_for_a_first_success():
    assert num_needed(0.5) == 5  # 1 - 0.5^5 is 0.97
    assert num_needed(0.0) is None
    assert num_needed(1.0) == 1


def test_expectation_adds_up_probabilities_of_what_counts(salts):
    structures, energies = salts
    assert expectation(candidates(structures, energies, "predict")).expected == pytest.approx(1.0)
    found = expectation(candidates(structures, energies, "discover"))  # rock salt is known
    assert found.expected == pytest.approx(0.5)
    assert found.num_more == num_needed(0.125) - 4
    assert (
        expectation([replace(one, stability=None) for one in candidates(*salts, "predict")]) is None
    )


def test_expectation_says_which_energies_its_probabilities_follow_from(salts):
    relaxed = candidates(*salts, "predict")
    assert expectation(relaxed).by == "relaxed"
    screened = [
        replace(one, stability=None, screening=Screening(screening_probability=0.25))
        for one in relaxed
    ]
    assert expectation(screened).by == "raw"
    mixed = expectation([screened[0], *relaxed[1:]])
    assert mixed.by == "relaxed, or else raw"
    lost = expectation(relaxed[:1]).expected - 0.25
    assert mixed.expected == pytest.approx(expectation(relaxed).expected - lost)


def test_small_cells_come_first_and_every_sample_is_in_one():
    model = read_config(find_checkpoint("mp"))
    asked = parse_constraints(Request(formula="K2PdCl4"))
    cells = plan_cells(asked, model, 64)
    assert [cell.units for cell in cells] == sorted(cell.units for cell in cells)
    assert cells[0].units == 1
    assert cells[0].num_samples > 5
    assert sum(cell.num_samples for cell in cells) == 64
    assert all(cell.num_atoms == 7 * cell.units and cell.num_templates for cell in cells)
    asked = parse_constraints(Request(formula="K2PdCl4", formula_units="2"))
    two = plan_cells(asked, model, 5)
    assert [(cell.units, cell.num_samples) for cell in two] == [(2, 5)]
    assert in_proportion([3.0, 1.0], 5) == [4, 1]


def test_prediction_recovers_rock_salt_and_says_so(tmp_path):
    truth = tmp_path / "salt.cif"
    nacl().to(str(truth))
    out = tmp_path / "out"
    found = predict(formula="NaCl", num_samples=12, truth=truth, out=out, **FAST)
    given = found.recovered[0]
    assert given.is_given
    assert given.place is not None
    assert given.distance < 0.01  # all places of rock salt are fixed by symmetry
    assert given.name == "salt.cif = mp-22862"
    assert "given: salt.cif = mp-22862 (Fm-3m (225)) RECOVERED" in found.text()
    facts = json.loads((out / "prediction.json").read_text())
    assert facts["structures"][given.place - 1]["truth_distance"] == given.distance
    assert len((out / "structures.csv").read_text().splitlines()) == 1 + len(found.structures)
    assert json.loads((out / "run.json").read_text())["verb"] == "predict"


def test_a_completed_host_is_the_one_that_was_given(tmp_path):
    host = tmp_path / "salt.cif"
    nacl().to(str(host))
    found = complete(
        seed_structure=host, fix_sites="Cl", fix_lattice=True, num_samples=8, out=None, **FAST
    )
    assert {one.formula for one in found.structures} == {"NaCl"}
    assert found.recovered[0].place is not None
    assert found.recovered[0].distance < 0.1
    assert "salt.cif without Na4 completed to NaCl" in found.title


def test_known_forms_are_those_of_what_is_made(tmp_path):
    host = tmp_path / "salt.cif"
    nacl().to(str(host))
    found = complete(
        seed_structure=host, fix_sites="Cl", elements="K", num_samples=2, out=None, **FAST
    )
    assert {one.formula for one in found.structures} == {"KCl"}
    known = {data_show("KCl").facts["material_id"], *data_show("KCl").others}
    assert {one.name for one in found.recovered} <= known
    assert found.recovered
    assert "in no order" in found.text()


def test_bad_requests_are_refused(tmp_path):
    other = tmp_path / "rutile.cif"
    rutile().to(str(other))
    with pytest.raises(ValueError, match="formula: expected the composition"):
        predict(out=None, **FAST)
    with pytest.raises(ValueError, match=r"truth .* is TiO2: expected the composition NaCl"):
        predict(formula="NaCl", truth=other, out=None, **FAST)
    with pytest.raises(ValueError, match="seed-structure: expected the host"):
        complete(out=None, **FAST)
    with pytest.raises(ValueError, match=r"all sites of rutile\.cif stay"):
        complete(seed_structure=other, out=None, **FAST)


def shifted(shift: list[float]) -> Structure:
    """Strontium titanate with titanium moved along a direction."""
    form = perovskite()
    titanium = next(i for i, site in enumerate(form) if site.specie.symbol == "Ti")
    return form.translate_sites([titanium], 0.03 * np.array(shift))


def test_a_polymorph_is_found_only_with_its_space_group():
    """All forms match each other within the tolerances of structure prediction."""
    records = [StructureRecord("a", shifted([1, 1, 1])), StructureRecord("b", shifted([0, 0, 1]))]
    targets = [
        TargetStructure(name="R3m", structure=shifted([1, 1, 1]) * (2, 1, 1), is_given=True),
        TargetStructure(name="Amm2", structure=shifted([0, 1, 1])),
        TargetStructure(name="cubic", structure=perovskite()),
    ]
    judge = Judge.of(JudgeOptions(relax=False), goal="predict")
    with Pool(0) as pool:
        run = JudgingRun(judge=judge, pool=pool)
        found = predict_structures(run, records, targets, title="", provenance={})
    distances = {one.space_group: one.truth_distance for one in found.structures}
    assert distances == {"R3m (160)": pytest.approx(0, abs=1e-6), "P4mm (99)": None}
    assert [one.num_found for one in found.structures] == [1, 1]
    given, amm2, cubic = found.recovered
    assert found.structures[given.place - 1].space_group == given.space_group == "R3m (160)"
    assert given.distance == pytest.approx(0, abs=1e-6)
    assert (amm2.place, cubic.place) == (None, None)
    assert "known: Amm2 (Amm2 (38)) not found (place" in amm2.text()
    assert " Å away, but " in cubic.text()


def test_a_distant_match_is_called_distorted():
    """Of five atoms one moves by d: after the best shift of all, sqrt(4)/5 d remain.

    The bound is 0.05 of 3.905 Å / 5^(1/3), that is 0.114 Å.
    """
    moves = {"near": 0.5, "far": 3.0}  # beside 1.0 of the sample, in 0.03 of the diagonal
    targets = [TargetStructure(name=name, structure=shifted([n] * 3)) for name, n in moves.items()]
    with Pool(0) as pool:
        run = JudgingRun(judge=Judge.of(JudgeOptions(relax=False), goal="predict"), pool=pool)
        records = [StructureRecord("a", shifted([1, 1, 1]))]
        found = predict_structures(run, records, targets, title="", provenance={})
    diagonal = 0.03 * 3.905 * np.sqrt(3)
    near, far = found.recovered
    assert near.distance == pytest.approx(0.4 * 0.5 * diagonal, rel=0.01)
    assert far.distance == pytest.approx(0.4 * 2.0 * diagonal, rel=0.01)
    assert near.text().endswith("RECOVERED in place 1, 0.04 Å away")
    assert far.text().endswith("RECOVERED in place 1, 0.16 Å away (distorted)")


def basin(energy: float, known: str) -> Basin:
    best = Candidate(
        raw=Score(name="gan", novelty=Novelty(is_unique=True, nearest_known=known)),
        structure=None,
        stability=Stability(e_above_hull_raw=energy, probability_metastable=0.5),
    )
    return Basin(best=best, num_found=1)


def test_of_structures_that_tie_the_known_ones_come_first_by_the_energies_of_dft():
    # GaN: wurtzite (mp-804) is on the hull, zincblende (mp-830) above it.
    assert known_value("mp-804", "e_above_hull") < known_value("mp-830", "e_above_hull")
    new, zincblende, wurtzite = basin(-0.003, ""), basin(-0.002, "mp-830"), basin(0.0, "mp-804")
    higher = basin(0.004, "mp-804")
    seen = _known_first(Landscape(basins=(new, zincblende, wurtzite, higher)))
    assert [one.best.energy for one in seen.basins] == [0.0, -0.002, -0.003, 0.004]
    assert _lowest_energy(seen) == -0.003


@pytest.mark.parametrize(
    ("energy", "place", "is_given", "warning"),
    [
        (-0.011, None, False, "missing: x (R3m (160)) is known and lies 0.011 eV/atom below all"),
        (-0.011, None, True, "missing: x (R3m (160)) was given and lies 0.011 eV/atom below all"),
        (-0.007, 1, False, "not relaxed far enough: x (R3m (160)) is known and lies 0.007"),
        (0.001, None, False, "missing: x (R3m (160)) is known and as low as the best sample"),
        (0.001, 2, False, None),
        (0.02, None, False, None),  # it is not the ground state
        (None, None, False, None),
    ],
)
def test_a_known_structure_that_the_list_lacks_is_named(energy, place, is_given, warning):
    recovery = Recovery(
        name="x",
        is_given=is_given,
        space_group="R3m (160)",
        energy_above_best=energy,
        place=place,
        distance=None if place is None else 0.3,
    )
    told = recovery.warning
    assert told is None if warning is None else told.startswith(warning)
