"""What a core hour gives: expected and credible M.S.U.N. end to end, by one judge on one machine.

    OMP_NUM_THREADS=1 python benchmarks/yield.py --checkpoint mp --substitution --ion-exchange \
        --samples DiffCSP=diffcsp.parquet@70.5 --num-samples 400 --relax 40

One row a proposal. The two that need no model put other elements into known crystals: the nearest
by descriptor (substitution), or ions of the same charge and the nearest radii (ion-exchange). Each
proposal is sampled, judged as it came, screened by raw energy, the best `--relax` relaxed in
symmetry, decided by the accurate potential, released, judged again. M.S.U.N. is the sum of the
probabilities of being metastable over the relaxed crystals that are unique and novel. Credible are
those that are also above P-1 (space group number > 2 at 0.1 Å) and not flagged as disorder-like;
the third figure counts those of them whose framework no known crystal has.
With a target, `mp:condition=band_gap=3`, only crystals that are on it count, and only those that
may be are relaxed; `mp:condition=band_gap=3:guidance=0` are samples of no target, judged by it.
All is charged by the CPU second, sampling included: measured for checkpoints and substitutions,
stated behind the @ for samples that were made elsewhere. Errors are bootstrapped over samples;
differences between machines cancel where rows stand in one table.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.processes import Pool
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.sampling.generator import open_generator
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.known.reference import Reference

NUM_RESAMPLES = 2000
WITHOUT_MODEL = ("substitution", "ion-exchange")
SECONDS_PER_HOUR = 3600
Row = dict[str, float | str]


class CpuWatch(Stopwatch):
    """Seconds of this process, which a busy machine does not stretch."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


@dataclass(frozen=True)
class Proposal:
    """Samples of one origin and what making all of them cost."""

    name: str
    records: list[StructureRecord]
    seconds: float
    targets: tuple[PropertyTarget, ...] = ()


def from_checkpoint(text: str, count: int, seed: int) -> Proposal:
    """Samples made here, `name:option=value:...`; loading model and table is not charged.

    Raises:
        ValueError: If an option does not exist, or its value is not accepted.
    """
    name, *settings = text.split(":")
    values = dict(setting.split("=", 1) for setting in settings)
    named = {"propose": name} if name in WITHOUT_MODEL else {"checkpoint": name}
    parts = [
        TypeAdapter(kind).validate_python(
            {field.name: given(field, values) for field in fields(kind) if field.name in values}
            | ({} if kind is SamplerOptions else named)
        )
        for kind in (Request, SamplerOptions)
    ]
    if values:
        raise ValueError(f"checkpoint {text!r}: no option {', '.join(values)}")
    generator = open_generator(*parts, torch.device("cpu"))
    next(generator.records(range(1), 1, seed=seed + 1))  # reads the table of known crystals
    start = time.process_time()
    batches = generator.records(range(count), count, seed=seed)
    records = [record for batch in batches for record in batch]
    return Proposal(text, records, time.process_time() - start, generator.asked)


def given(option: Field, values: dict[str, str]) -> str | tuple[str, ...]:
    """Take the value of an option; one that may be repeated has it once."""
    value = values.pop(option.name)
    return (value,) if isinstance(option.default, tuple) else value


def from_samples(text: str, count: int) -> Proposal:
    """Samples made elsewhere, `name=path@seconds` with the stated cost of one.

    Raises:
        ValueError: If the text has another form.
    """
    name, equals, rest = text.partition("=")
    path, at, seconds = rest.rpartition("@")
    if not (equals and at and float(seconds) >= 0):
        raise ValueError(f"samples {text!r}: expected name=path@seconds")
    run = RunFolder(Path(path))
    source = run.frames if run.frames.exists() else run.path
    records = list(islice(read_structures(source), count))
    return Proposal(name, records, float(seconds) * len(records))


def chance(candidate: Candidate) -> float:
    """Expected M.S.U.N. of one crystal: 0 unless it is relaxed, unique, novel and on target."""
    checks = candidate.checks
    passed = (
        checks.get("unique")
        and checks.get("novel")
        and checks.get("on_target", not candidate.outcomes)
    )
    if candidate.stability is None or not passed:
        return 0.0
    return float(np.nan_to_num(candidate.stability.probability_metastable))


def bootstrap_error(values: np.ndarray, seconds: float) -> float:
    """Standard error of the sum of the values per core hour, over samples drawn again."""
    drawn = np.random.default_rng(0).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    return float(values[drawn].sum(axis=1).std() / seconds * SECONDS_PER_HOUR)


def measure(proposal: Proposal, relax: int, reference: Reference) -> Row:
    """Judge one proposal and charge everything."""
    watch = CpuWatch()
    with Pool(0) as pool:
        result_cache = ResultCache(pool, progress=False)
        options = JudgeOptions(relax_at_most=relax, control=0.0, second_opinion=None)
        judge = Judge(
            options=options,
            reference=reference,
            potential_set=PotentialSet.of(options),
            targets=proposal.targets,
        )
        candidates = judge.judge(proposal.records, result_cache, watch)
    return figures(proposal, candidates, watch.seconds)


def figures(proposal: Proposal, candidates: Sequence[Candidate], judging: dict[str, float]) -> Row:
    """One row of the table."""
    expected = np.array([chance(candidate) for candidate in candidates])
    credible = expected * np.array([candidate.is_credible for candidate in candidates])
    frameworks = credible * np.array([candidate.has_new_framework for candidate in candidates])
    relaxed = sum(candidate.stability is not None for candidate in candidates)
    seconds = proposal.seconds + sum(judging.values())
    hits = [
        candidate for candidate, value in zip(candidates, credible, strict=True) if value >= 0.4
    ]
    return {
        "proposal": proposal.name,
        "samples": len(candidates),
        "relaxed": relaxed,
        "sampling s": proposal.seconds,
        "judging s": sum(judging.get(name, 0.0) for name in ("judging", "comparing", "confirming")),
        "screening s": judging["screening"],
        "relaxing s": sum(judging[name] for name in ("relaxing", "releasing", "judging relaxed")),
        "M.S.U.N.": float(expected.sum()),
        "credible": float(credible.sum()),
        "new framework": float(frameworks.sum()),
        "M.S.U.N. of relaxed": float(expected.sum() / max(relaxed, 1)),
        "credible of relaxed": float(credible.sum() / max(relaxed, 1)),
        "M.S.U.N. per core hour": float(expected.sum() / seconds * SECONDS_PER_HOUR),
        "error": bootstrap_error(expected, seconds),
        "credible per core hour": float(credible.sum() / seconds * SECONDS_PER_HOUR),
        "credible error": bootstrap_error(credible, seconds),
        "new framework per core hour": float(frameworks.sum() / seconds * SECONDS_PER_HOUR),
        "new framework error": bootstrap_error(frameworks, seconds),
        "chemical systems": len({hit.raw.chemical_system for hit in hits}),
    }


def markdown(rows: Sequence[Row]) -> str:
    """The table as people read it."""
    lines = [
        "| proposal | samples, relaxed | core s: sampling / judging / screening / relaxing "
        "| M.S.U.N. (credible, new framework) | of relaxed | M.S.U.N. per core hour "
        "| credible per core hour | new framework per core hour |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clocks = " / ".join(
            f"{row[f'{name} s']:.0f}" for name in ("sampling", "judging", "screening", "relaxing")
        )
        lines.append(
            f"| {row['proposal']} | {row['samples']}, {row['relaxed']} | {clocks} "
            f"| {row['M.S.U.N.']:.1f} ({row['credible']:.1f}, {row['new framework']:.1f}) "
            f"| {row['M.S.U.N. of relaxed']:.0%} ({row['credible of relaxed']:.0%}) "
            f"| {row['M.S.U.N. per core hour']:.0f} ± {row['error']:.0f} "
            f"| {row['credible per core hour']:.0f} ± {row['credible error']:.0f} "
            f"| {row['new framework per core hour']:.0f} ± {row['new framework error']:.0f} |"
        )
    return "\n".join(lines)


def proposals(options: argparse.Namespace) -> Iterator[Proposal]:
    """Everything that was asked for, made one after the other."""
    for checkpoint in options.checkpoint:
        yield from_checkpoint(checkpoint, options.num_samples, options.seed)
    for name in WITHOUT_MODEL:
        if getattr(options, name.replace("-", "_")):
            yield from_checkpoint(name, options.num_samples, options.seed)
    for text in options.samples:
        yield from_samples(text, options.num_samples)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", action="append", default=[], help="name:option=value:... of ours; repeat"
    )
    parser.add_argument("--substitution", action="store_true", help="of similar elements")
    parser.add_argument("--ion-exchange", action="store_true", help="of ions of similar radii")
    parser.add_argument("--samples", action="append", default=[], help="name=path@seconds; repeat")
    parser.add_argument("--num-samples", type=int, default=400)
    parser.add_argument("--relax", type=int, default=40, help="how many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    reference = Reference.embedded()
    # What is loaded once in a process is not charged to whoever comes first.
    measure(from_checkpoint(WITHOUT_MODEL[0], 2, options.seed + 1), 1, reference)
    rows = []
    for proposal in proposals(options):
        rows.append(measure(proposal, options.relax, reference))
        print(markdown(rows), flush=True)
        if options.markdown is not None:
            options.markdown.write_text(markdown(rows) + "\n")
    line = json.dumps({"seed": options.seed, "rows": rows})
    print(line)
    if options.json is not None:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
