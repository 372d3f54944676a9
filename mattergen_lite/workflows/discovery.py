"""Repeats generating, judging and learning from what passed, after GNoME's active learning.

Merchant et al. (2023), Nature 624, 80, with this generator in the place of substitutions. Every
round starts from the base model, taught all that has been found so far among crystals of the
embedded table. What has been found is known to later rounds: a pass rate counts new crystals only.

    out/settings.json          what the loop was asked; another one does not continue it
    out/rounds/00/tuning/      the run that taught the model; absent while nothing had been found
    out/rounds/00/generated/   what `generate` wrote
    out/rounds/00/found.parquet what passed every required check, as a crystal table
    out/rounds/00/judged.parquet every new crystal with an energy, good and bad
    out/rounds/00/labels.json  crystals that were verified by first principles
    out/rounds/00/calibration.json what the judge of the round had learnt of earlier labels
    out/rounds/00/round.json   statistics, written last: the round is over
    out/rounds.csv, rounds.json, rounds.png
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import TypeAdapter

from mattergen_lite.data.canonical import write_crystal_table
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.hub import read_config
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.runs.figures import BLUE, DOTS_PER_INCH, GREY, ORANGE
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.store import damaged
from mattergen_lite.runs.tables import write_json, write_table
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.accuracy import Accuracy
from mattergen_lite.training.finetuning import base_loss, finetune_on
from mattergen_lite.workflows.labelling import (
    Labelling,
    before_and_after,
    read_labels,
    write_calibrations,
)
from mattergen_lite.workflows.learning import (
    E_ABOVE_HULL,
    judged_crystals,
    training_rows,
    worth_teaching,
)

SETTINGS, STATISTICS = "settings.json", "round.json"
EARLIER = re.compile(r"\d\d-")  # begins the name of what an earlier round has found
FOUND, JUDGED = "found.parquet", "judged.parquet"
LABELS, CALIBRATION = "labels.json", "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Folder, model, sample numbers and earlier findings of one round."""

    out: Path
    checkpoint: Path
    first_sample: int  # every round has samples of its own
    finds: Sequence[Path]  # crystal tables of what earlier rounds have found
    calibration: Path | None = None  # that has seen the labels of earlier rounds


@dataclass(frozen=True, kw_only=True)
class DiscoverOptions:
    """Options of a loop of generating, judging and fine-tuning."""

    rounds: int
    patience: int
    num_samples: int  # a round
    settings: Mapping[str, object]  # all that decides what is found, for a later launch to compare
    tuning: FinetuneOptions
    labelling: Labelling | None = None  # None: nothing is verified


@dataclass(frozen=True, kw_only=True)
class Round:
    """Statistics of one round."""

    number: int  # from 0
    checkpoint: str  # folder of the model that sampled
    num_sampled: int
    left: dict[str, int]  # check -> samples that pass it and every one before
    num_passed: int
    num_found: int  # by this round and all before it
    base_loss: float  # of MP-20 validation crystals: what the model has forgotten
    num_verified: int = 0  # by first principles
    num_found_again: int = 0  # samples equal to what an earlier round found: not among the passed
    expected_msun: float | None = None  # number; None where nothing was relaxed
    expected_credible_msun: float | None = None
    num_systems: int = 0  # chemical systems among the passed
    rare_earth_share: float = 0.0  # of the passed, those with a lanthanide, an actinide, Sc or Y
    mean_hhi: float | None = None  # of the passed: how few countries produce their elements

    @property
    def pass_rate(self) -> float:
        """Share of the samples that passed every required check."""
        return self.num_passed / self.num_sampled

    def row(self) -> dict[str, str | int | float]:
        """One row of the table."""
        plain = asdict(self)
        left = {f"passed_{name}": count for name, count in plain.pop("left").items()}
        number = plain.pop("number")
        figures = {name.removeprefix("num_"): value for name, value in plain.items()}
        return {"round": number, **figures, "pass_rate": self.pass_rate, **left}


_ROUND = TypeAdapter(Round)


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """Outcome of a loop."""

    table: Path
    rounds: tuple[Round, ...]
    reason: str  # why it ended
    # on labels: before, and by other rounds' labels
    judged: tuple[Accuracy, Accuracy] | None = None

    @property
    def best(self) -> Round:
        """The round with the highest pass rate, the first of equals."""
        return self.rounds[_best(self.rounds)]

    def text(self) -> str:
        """One line a round."""
        lines = [
            f"round {state.number}: {state.num_passed} of {state.num_sampled} passed "
            f"({state.pass_rate:.1%}), {state.num_found} found, loss of MP-20 validation crystals "
            f"{state.base_loss:.3f}"
            for state in self.rounds
        ]
        best = f"highest pass rate: round {self.best.number}, model {self.best.checkpoint}"
        if self.judged is not None:
            before, after = self.judged
            lines.append(
                f"judge on {before.num_crystals} verified crystals, calibrated as before / on the "
                f"labels of other rounds: MAE {before.mean_error:.3f} / {after.mean_error:.3f}, "
                f"bias {before.bias:+.3f} / {after.bias:+.3f} eV/atom, "
                f"Brier {before.brier:.3f} / {after.brier:.3f}"
            )
        return "\n".join([*lines, f"ended: {self.reason}", best, f"-> {self.table}"])


def settings(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments of a loop that decide what it finds, as plain data."""
    return json.loads(json.dumps(arguments, default=str))


def discover(
    base: Path, out: Path, generate: Callable[[Sampling], None], options: DiscoverOptions
) -> Discovered:
    """Run a loop, or continue the one that `out` holds.

    Raises:
        ValueError: If `out` holds a loop of other settings, or whatever `generate` raises.
    """
    _check_settings(out, options.settings)
    rounds: list[Round] = []
    while (reason := end_of(rounds, options)) is None:
        rounds.append(_run_round(len(rounds), base, out, generate, options))
        _write_rounds(out, rounds)
    labelling = options.labelling
    labels = [read_labels(_round_folder(out, row.number) / LABELS) for row in rounds]
    return Discovered(
        table=out / "rounds.csv",
        rounds=tuple(rounds),
        reason=reason,
        judged=labelling and before_and_after(labelling.base, labels),
    )


def _check_settings(out: Path, asked: Mapping[str, object]) -> None:
    if not (out / SETTINGS).exists():
        return
    try:
        held = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        raise ValueError(f"{out / SETTINGS} is damaged: choose another folder")
    # Of both: an option that is left out now, such as --verify, counts as well.
    changed = [name for name in {**asked, **held} if held.get(name) != asked.get(name)]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{out} holds a loop with {name} {held.get(name)!r}, not {asked.get(name)!r}: "
            "choose another folder or the same settings"
        )


def end_of(rounds: Sequence[Round], options: DiscoverOptions) -> str | None:
    """Why a loop with these rounds is over; None while it is not."""
    if rounds and len(rounds) - 1 - _best(rounds) >= options.patience:
        return f"no higher pass rate for {options.patience} rounds"
    return f"{options.rounds} rounds" if len(rounds) >= options.rounds else None


def _best(rounds: Sequence[Round]) -> int:
    return max(range(len(rounds)), key=lambda number: (rounds[number].pass_rate, -number))


def _run_round(
    number: int,
    base: Path,
    out: Path,
    generate: Callable[[Sampling], None],
    options: DiscoverOptions,
) -> Round:
    """One round, or what is left of it; one that is over is only read."""
    folder = _round_folder(out, number)
    if (folder / STATISTICS).exists():
        return _read_round(folder / STATISTICS)
    finds = _tables_found(out, number)
    model = taught(base, out, number, options.tuning)
    generated = RunFolder(folder / "generated")
    if not generated.is_finished:
        sampling = Sampling(
            out=generated.path,
            checkpoint=model,
            first_sample=number * options.num_samples,
            finds=tuple(finds.values()),
            calibration=_calibration(out, number, options.labelling),
        )
        generate(sampling)
    write_json(options.settings, out / SETTINGS)
    labels = options.labelling.label(generated, folder / LABELS) if options.labelling else []
    judged = Judgements.load(generated.path)
    passed = judged.passed
    as_table = partial(judged_crystals, prefix=f"{number:02d}", split="train")
    max_atoms = read_config(base).max_atoms
    rows = as_table(sorted(passed, key=lambda candidate: candidate.raw.name), max_atoms=max_atoms)
    write_crystal_table(rows, folder / FOUND)
    write_crystal_table(as_table(worth_teaching(judged), max_atoms=max_atoms), folder / JUDGED)
    statistics = Round(
        number=number,
        checkpoint=str(model),
        num_sampled=len(judged),
        left=judged.funnel.left,
        num_passed=len(passed),
        num_found=len(rows) + sum(pq.read_metadata(path).num_rows for path in finds.values()),
        base_loss=base_loss(model, options.tuning.device),
        num_verified=len(labels),
        **_yields(judged),
        **drift(passed),
    )
    write_json(asdict(statistics), folder / STATISTICS)
    return statistics


def _calibration(out: Path, number: int, labelling: Labelling | None) -> Path | None:
    """Calibration that has seen the labels of all earlier rounds; None where there are none."""
    if labelling is None:
        return None
    earlier = [read_labels(_round_folder(out, index) / LABELS) for index in range(number)]
    labels = [label for some in earlier for label in some]
    if not labels:
        return None
    path = _round_folder(out, number) / CALIBRATION
    return write_calibrations(labelling, labels, path)


def _yields(judged: Judgements) -> dict[str, int | float | None]:
    """What a round can be expected to hold, and how much of it was there before."""
    nearest = [
        candidate.final.novelty.nearest_known for candidate in judged if candidate.final.novelty
    ]
    stability = judged.summary().stability
    return {
        "num_found_again": sum(bool(EARLIER.match(name or "")) for name in nearest),
        "expected_msun": stability and stability.expected_msun * len(judged),
        "expected_credible_msun": stability and stability.expected_credible_msun * len(judged),
    }


def drift(passed: Sequence[Candidate]) -> dict[str, int | float | None]:
    """Of which elements the crystals are that passed: a loop may drift towards a few."""
    elements = [set(candidate.final_structure.composition.elements) for candidate in passed]
    hhi = [
        candidate.raw.credibility.hhi_production
        for candidate in passed
        if candidate.raw.credibility
    ]
    known = [value for value in hhi if value is not None]
    rare_earths = sum(any(element.is_rare_earth for element in some) for some in elements)
    return {
        "num_systems": len({frozenset(some) for some in elements}),
        "rare_earth_share": rare_earths / len(passed) if passed else 0.0,
        "mean_hhi": fmean(known) if known else None,
    }


def _read_round(path: Path) -> Round:
    try:
        return _ROUND.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None


def _round_folder(out: Path, number: int) -> Path:
    return out / "rounds" / f"{number:02d}"


def _tables_found(out: Path, number: int) -> dict[int, Path]:
    """Tables with what was found before a round, by the number of the round that found it."""
    tables = {earlier: _round_folder(out, earlier) / FOUND for earlier in range(number)}
    return {earlier: path for earlier, path in tables.items() if pq.read_metadata(path).num_rows}


def taught(base: Path, out: Path, number: int, options: FinetuneOptions) -> Path:
    """The model of a round: the base taught all finds before it, itself while there are none.

    If the round before has found nothing, there is nothing new to teach: its model is taken again.
    """
    finds = _tables_found(out, number)
    if not finds:
        return base
    run_dir = _round_folder(out, max(finds) + 1) / "tuning"
    if max(finds) + 1 < number:
        return run_dir / "model"
    return finetune_on(base, _training_rows(base, finds.values()), run_dir, options)


def _training_rows(base: Path, finds: Iterable[Path]) -> pa.Table:
    """What a model is taught: good and bad crystals if it can tell them apart, else good ones."""
    if E_ABOVE_HULL not in {prop.name for prop in read_config(base).properties}:
        tables = [pq.read_table(path) for path in finds]
        return pa.concat_tables(tables, promote_options="default")
    tables = [pq.read_table(path.with_name(JUDGED)) for path in finds]
    return training_rows(pa.concat_tables(tables, promote_options="default"))


def _write_rounds(out: Path, rounds: Sequence[Round]) -> None:
    write_table([state.row() for state in rounds], out / "rounds.csv")
    write_json({"rounds": [state.row() for state in rounds]}, out / "rounds.json")
    with atomic_path(out / "rounds.png") as temporary:
        _draw_rounds(rounds).savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def _draw_rounds(rounds: Sequence[Round]) -> Figure:
    """Pass rate, crystals found and loss of the base's crystals, by round."""
    numbers = [state.number for state in rounds]
    panels = {
        "share that passes": ([state.pass_rate for state in rounds], BLUE),
        "crystals found": ([state.num_found for state in rounds], ORANGE),
        "loss of MP-20 validation crystals": ([state.base_loss for state in rounds], GREY),
    }
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    for axes, (label, (values, colour)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.plot(numbers, values, "o-", color=colour, markersize=4)
        axes.set(xlabel="round", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
