"""Ranks what samples of a composition relax into, and compares it with known structures.

All samples are judged at once, and raw energies say which are worth relaxing. Known structures of
the composition are relaxed with the same potential, so that energies compare. The folder of a run
gets prediction.json and structures.csv (and .parquet), one row a different structure.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pymatgen.core import Composition, Element, Structure
from pymatgen.symmetry.groups import sg_symbol_from_int_number

from mattergen_lite.config import ModelConfig
from mattergen_lite.data.materials import known_value
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import NumAtoms
from mattergen_lite.request.host import read_one
from mattergen_lite.runs.folder import DISTINCT, PREDICTION
from mattergen_lite.runs.judging import JudgingRun
from mattergen_lite.runs.tables import write_json, write_table
from mattergen_lite.sampling.generator import Generator
from mattergen_lite.sampling.substitution import Substitution
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.criteria.matching import (
    Comparison,
    Match,
    ReducedCrystal,
    ReductionTask,
    find_nearest,
    reduce_crystal,
)
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_POLYMORPHS, achiral, polymorph
from mattergen_lite.scoring.known.reference import Crystal, Reference, composition_key
from mattergen_lite.scoring.metrics.expectation import expectation
from mattergen_lite.scoring.metrics.landscape import Basin, Landscape, landscape
from mattergen_lite.scoring.score import Score
from mattergen_lite.workflows.cell_sizes import CellSize, plan_cells
from mattergen_lite.workflows.csp_report import (
    DISTORTED,
    TIE,
    FoundStructure,
    Recovery,
    StructurePrediction,
)

NUM_KNOWN = 3  # known structures of the composition that are relaxed, lowest above the hull first
MATCH_TIME_LIMIT = 600.0  # s
GIVEN = "given"  # key of the structure that the user has given


@dataclass(frozen=True, kw_only=True)
class TargetStructure:
    """A structure that the samples are to be compared with."""

    name: str  # of a file, or the material_id
    structure: Structure
    is_given: bool = False  # by the user, not found among the known structures

    @property
    def key(self) -> str:
        """Key of the target among all targets."""
        return GIVEN if self.is_given else self.name


def sample_cells(
    generator: Generator | Substitution, num_samples: int, seed: int
) -> tuple[tuple[CellSize, ...], list[StructureRecord]]:
    """Samples of a formula in cells of several sizes.

    Raises:
        ValueError: If the model cannot make the composition.
    """
    is_model = isinstance(generator, Generator)
    asked = generator.target if is_model else generator
    limits = generator.model.config if is_model else ModelConfig()
    cells = plan_cells(asked.constraints, limits, num_samples)
    records: list[StructureRecord] = []
    for cell in cells:
        size = NumAtoms(fewest=cell.num_atoms, most=cell.num_atoms)
        exact = replace(asked, constraints=Constraints(parts=(*asked.constraints.parts, size)))
        source = replace(generator, target=exact) if is_model else exact
        numbers = range(len(records), len(records) + cell.num_samples)
        for batch in source.records(numbers, len(numbers), seed=seed):
            records += batch
    return cells, records


def read_truth(path: Path, formula: str) -> TargetStructure:
    """A structure to compare with, of the composition that is predicted.

    Raises:
        ValueError: If it cannot be read or has another composition.
    """
    structure = read_one(path, "truth")
    composition = structure.composition.reduced_formula
    if composition != Composition(formula).reduced_formula:
        raise ValueError(f"truth {path} is {composition}: expected the composition {formula}")
    return TargetStructure(name=path.name, structure=structure, is_given=True)


def known_forms(
    records: Sequence[StructureRecord], reference: Reference, given: TargetStructure
) -> list[TargetStructure]:
    """What is known of the compositions of samples, the most frequent first, after what was given.

    The structure that was given is left out where no sample has its composition.
    """
    formulas = Counter(
        record.structure.composition.reduced_formula
        for record in records
        if record.structure is not None
    )
    own = given.structure.composition.reduced_formula
    targets: list[TargetStructure] = []
    for formula, _ in formulas.most_common():
        if len(targets) < NUM_KNOWN:
            targets += known_polymorphs(formula, reference, [given] if formula == own else [])
    return targets


def known_polymorphs(
    formula: str, reference: Reference, given: Sequence[TargetStructure] = ()
) -> list[TargetStructure]:
    """What is known of a composition, lowest energy first, after what was given."""
    counts = Composition(formula).get_el_amt_dict()
    numbers = [Element(symbol).Z for symbol, count in counts.items() for _ in range(int(count))]
    rows = reference.rows_of_composition.get(composition_key(numbers), [])
    energies = {row: known_value(reference.material_ids[row], "e_above_hull") for row in rows}
    order = sorted(rows, key=lambda row: (energies[row] is None, energies[row] or 0.0))
    known = [
        TargetStructure(
            name=reference.material_ids[row], structure=reference.crystal(row).structure()
        )
        for row in order[:NUM_KNOWN]
    ]
    for target in given:
        same = _equal_to(target, known)
        known = [other for other in known if other.name != same]
        known.insert(0, replace(target, name=f"{target.name} = {same}") if same else target)
    return known


def _equal_to(given: TargetStructure, known: Sequence[TargetStructure]) -> str | None:
    """Name of the known structure that a given one equals; None if none does."""
    group = polymorph(given.structure)
    alike = [target for target in known if polymorph(target.structure) == group]
    reduced = [ReducedCrystal.from_structure(target.structure) for target in (given, *alike)]
    (match,) = find_nearest(Comparison(reduced[:1], reduced[1:]))
    return None if match.best is None else alike[match.best.index].name


# The run


def predict(
    run: JudgingRun,
    records: Sequence[StructureRecord],
    targets: Sequence[TargetStructure],
    *,
    title: str,
    cells: Sequence[CellSize] = (),
    provenance: Mapping[str, object],
) -> StructurePrediction:
    """Judge samples of a composition, rank them by energy and compare them with what is known.

    Raises:
        ValueError: If there is no sample.
    """
    # Before the samples, because a finished run is not gone on with after a kill.
    judged = judge_targets(run, targets)
    judgements = run.execute([records], provenance)
    seen = _known_first(landscape(judgements.candidates))
    distances = _distances(seen, targets, run)
    structures = _found(seen, _same_polymorph(seen, distances, judged))
    prediction = StructurePrediction(
        judgements=judgements,
        title=title,
        cells=tuple(cells),
        structures=tuple(structures),
        recovered=tuple(_recovered(seen, distances, targets, judged)),
        landscape=seen,
        expected=expectation(judgements.candidates),
    )
    if run.place is not None:
        if structures:
            write_table([asdict(structure) for structure in structures], run.place.path / DISTINCT)
        write_json(prediction.figures(), run.place.path / PREDICTION)
    return prediction


def _known_first(seen: Landscape) -> Landscape:
    """Order structures whose energies tie with the lowest: known ones by the table, then new ones.

    Potentials cannot tell such structures apart, but the Materials Project can.
    """

    def energy_of_table(basin: Basin) -> float:
        energy = _known_e_above_hull(basin)
        return math.inf if energy is None else energy

    ties = _ties(seen)
    ordered = sorted(ties, key=lambda basin: (energy_of_table(basin), basin.best.energy))
    return Landscape(basins=(*ordered, *seen.basins[len(ties) :]))


def _ties(seen: Landscape) -> list[Basin]:
    """Structures as low as the lowest, which come first; none where nothing was relaxed."""
    lowest = _lowest_energy(seen)
    relaxed = [basin for basin in seen.basins if basin.best.energy is not None]
    return [basin for basin in relaxed if basin.best.energy <= lowest + TIE]


def judge_targets(run: JudgingRun, targets: Sequence[TargetStructure]) -> dict[str, Candidate]:
    """Known structures judged and relaxed as the samples are, all of them, by key."""
    if not targets:
        return {}
    everything = replace(run.judge.options, keep=None, relax_at_most=None, require=None)
    judge = replace(run.judge, options=everything, selective=False)
    records = [StructureRecord(target.key, target.structure) for target in targets]
    return {
        judged.raw.name: judged for judged in judge.judge(records, run.result_cache(), run.watch)
    }


def _distances(
    seen: Landscape, targets: Sequence[TargetStructure], run: JudgingRun
) -> dict[str, list[Match | None]]:
    """How far every different structure is from each target; None where it does not match."""
    structures = [basin.best.final_structure for basin in seen.basins]
    wanted = [*structures, *(target.structure for target in targets)]
    crystals = [ReductionTask(Crystal.from_structure(structure)) for structure in wanted]
    reduced = list(run.pool.map(reduce_crystal, crystals, time_limit=MATCH_TIME_LIMIT))
    made = {i: r for i, r in enumerate(reduced[: len(structures)]) if not isinstance(r, Failure)}
    tasks = [
        Comparison(list(made.values()), [] if isinstance(known, Failure) else [known])
        for known in reduced[len(structures) :]
    ]
    answers = run.pool.map(find_nearest, tasks, time_limit=MATCH_TIME_LIMIT)
    distances: dict[str, list[Match | None]] = {}
    for target, answer in zip(targets, answers, strict=True):
        distances[target.key] = [None] * len(structures)
        for index, matches in zip(
            made, [] if isinstance(answer, Failure) else answer, strict=False
        ):
            distances[target.key][index] = matches.best
    return distances


def _same_polymorph(
    seen: Landscape, distances: dict[str, list[Match | None]], judged: dict[str, Candidate]
) -> dict[str, list[Match | None]]:
    """Of these distances those between structures of the same space group."""
    made = [_group(basin.best.final) for basin in seen.basins]
    known = {key: _group(judged[key].raw) for key in distances}
    return {
        key: [
            match if group == known[key] else None for match, group in zip(row, made, strict=True)
        ]
        for key, row in distances.items()
    }


def _group(score: Score) -> int | None:
    """Space group that tells polymorphs apart; None where none was found."""
    return score.symmetry and achiral(score.symmetry.space_groups[SYMPREC_POLYMORPHS])


def _found(seen: Landscape, distances: dict[str, list[Match | None]]) -> list[FoundStructure]:
    """One row a different structure."""
    lowest = _lowest_energy(seen)
    num_ties = len(_ties(seen))
    return [
        _row(
            place,
            basin,
            lowest,
            {name: distance[place - 1] for name, distance in distances.items()},
            is_tie=place <= num_ties > 1,
        )
        for place, basin in enumerate(seen.basins, start=1)
    ]


def _row(
    place: int,
    basin: Basin,
    lowest: float | None,
    matches: dict[str, Match | None],
    *,
    is_tie: bool,
) -> FoundStructure:
    best = basin.best
    novelty, stability = best.final.novelty, best.stability
    on_hull = stability if stability and stability.stability_error is None else None
    return FoundStructure(
        place=place,
        sample=best.raw.name,
        formula=best.raw.formula,
        num_atoms=len(best.structure),
        space_group=_space_group(best.final),
        energy_above_best=None if best.energy is None else best.energy - lowest,
        e_above_hull=on_hull.e_above_hull if on_hull else None,
        e_above_hull_std=on_hull.e_above_hull_std if on_hull else None,
        calibration=stability.calibration if stability else "",
        num_found=basin.num_found,
        known_as=novelty.nearest_known if novelty else "",
        distance=novelty.rms_distance if novelty else None,
        truth_distance=_distance(matches.get(GIVEN)),
        known_e_above_hull=_known_e_above_hull(basin),
        is_tie=is_tie,
        is_distorted=_is_distorted(basin, novelty.rms_distance if novelty else None),
    )


def _known_e_above_hull(basin: Basin) -> float | None:
    """Energy above the hull of the known crystal that a structure equals, in the embedded table."""
    novelty = basin.best.final.novelty
    return known_value(novelty.nearest_known, "e_above_hull") if novelty else None


def _is_distorted(basin: Basin, distance: float | None) -> bool:
    """Whether a structure is farther from what it equals than relaxations explain."""
    structure = basin.best.final_structure
    limit = DISTORTED * (structure.volume / len(structure)) ** (1 / 3)
    return distance is not None and distance > limit


def _lowest_energy(seen: Landscape) -> float | None:
    """Lowest energy of a structure; None where nothing was relaxed."""
    energies = (basin.best.energy for basin in seen.basins)
    return min((energy for energy in energies if energy is not None), default=None)


def _distance(match: Match | None) -> float | None:
    return None if match is None else match.rms_distance


def _recovered(
    seen: Landscape,
    distances: dict[str, list[Match | None]],
    targets: Sequence[TargetStructure],
    judged: dict[str, Candidate],
) -> list[Recovery]:
    """What became of each target: the nearest of the different structures that is one with it."""
    lowest = _lowest_energy(seen)
    same = _same_polymorph(seen, distances, judged)
    recovered = []
    for target in targets:
        place, match = _nearest(same[target.key])
        itself = judged[target.key]
        energy = itself.energy
        recovered.append(
            Recovery(
                name=target.name,
                is_given=target.is_given,
                space_group=_space_group(itself.raw),
                energy_above_best=None if energy is None or lowest is None else energy - lowest,
                place=place,
                distance=_distance(match),
                resembles="" if place else _resembling(seen, distances[target.key]),
                is_distorted=place is not None
                and _is_distorted(seen.basins[place - 1], _distance(match)),
            )
        )
    return recovered


def _nearest(matches: Sequence[Match | None]) -> tuple[int | None, Match | None]:
    """Place, 1 for the lowest energy, and distance of the nearest structure that matches."""
    places = [place for place, match in enumerate(matches, start=1) if match is not None]
    nearest = min(places, key=lambda place: matches[place - 1].rms_distance, default=None)
    return nearest, None if nearest is None else matches[nearest - 1]


def _resembling(seen: Landscape, matches: Sequence[Match | None]) -> str:
    """Name the nearest structure of another space group that matches; empty if none does."""
    place, match = _nearest(matches)
    if match is None:
        return ""
    group = _space_group(seen.basins[place - 1].best.final)
    return f"place {place} is {match.rms_distance:.2f} Å away, but {group}"


def _space_group(score: Score) -> str:
    """Symbol and number, as polymorphs are told apart; empty where they could not be found."""
    symmetry = score.symmetry
    if symmetry is None:
        return ""
    number = symmetry.space_groups[SYMPREC_POLYMORPHS]
    is_same = number == symmetry.space_group
    symbol = symmetry.space_group_symbol if is_same else sg_symbol_from_int_number(number, False)
    return f"{symbol} ({number})"
