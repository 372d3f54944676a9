"""Sets of crystals under one of the field's protocols, beside each other and what was published.

A set that is not the folder of an earlier run is judged first, as `score` does it, into
<out>/judged/<name>; a run's own judgements and relaxations are used as they are.

    out/judged/<name>/     what `score` would have written; an interrupted benchmark goes on from it
    out/fingerprints.jsonl what coverage has worked out so far; gone when all is done
    out/benchmark.json     all figures, with the protocol in words; written last
    out/benchmark.md, .png the same for people
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure as Drawing
from pymatgen.core import Structure

from mattergen_lite.benchmarking.protocols import (
    TRAINING,
    Figure,
    Protocol,
    published,
)
from mattergen_lite.data.dataset import embedded_crystals, embedded_table
from mattergen_lite.folders import atomic_path
from mattergen_lite.io.records import StructureRecord, read_structures, write_text
from mattergen_lite.processes import Failure, Pool, attempt
from mattergen_lite.runs.figures import BLUE, DOTS_PER_INCH, GREY
from mattergen_lite.runs.results import (
    FRAMES,
    RECORD,
    RELAXED_FRAMES,
    JudgeOptions,
    Row,
    Stopwatch,
    judge_and_write,
    write_json,
)
from mattergen_lite.scoring.criteria.novelty import Novelty, novelty
from mattergen_lite.scoring.execution.journal import Journal, structure_identity
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.coverage import (
    FINGERPRINT,
    coverage,
    has_matminer,
    known_fingerprints,
)
from mattergen_lite.scoring.metrics.distributions import distances
from mattergen_lite.scoring.metrics.prediction import predicted
from mattergen_lite.scoring.score import ordered_structure

RESULT = "benchmark.json"
FINGERPRINTS = "fingerprints.jsonl"
PANELS_ACROSS = 5
# The probabilities that the judge states, by threshold in eV/atom.
_PROBABILITIES = {0.0: "probability_stable", 0.1: "probability_metastable"}

Values = dict[str, float | None]  # figures by name; None where there is none


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the comparison."""

    name: str
    num: int | None  # what shares are of; None if it was not published
    judged_by: str
    values: Values
    source: str  # of the crystals; empty if published


@dataclass(frozen=True, kw_only=True)
class Benchmarked:
    """Outcome of a benchmark."""

    protocol: Protocol
    measured: tuple[Line, ...]
    published: tuple[Line, ...]
    published_source: str
    folder: Path
    note: str = ""  # why columns are empty

    def markdown(self) -> str:
        """The comparison as a document: table, what the columns mean, how it differs."""
        protocol = self.protocol
        sections = [
            f"# {protocol.name}: {protocol.title}",
            f"Defined by {protocol.source}.{_compared(protocol)}",
            "\n".join(_table(protocol.figures, self.measured, self.published)),
            f"Shares are ± one standard error (Agresti-Coull).{self._on_published()}",
            self.note,
            _bullets("Columns", (f"**{f.heading}**: {f.how}" for f in protocol.figures)),
            _bullets("How this differs from the papers", protocol.differences),
            _bullets("Left out", protocol.left_out),
        ]
        return "\n\n".join(filter(None, sections)) + "\n"

    def _on_published(self) -> str:
        """What the published rows are, in words."""
        if not self.published:
            return ""
        warning = " Another potential, hull and set of known structures judged them."
        source = f" Rows in *italics* are published: {self.published_source}."
        return source + (warning if self.protocol.relaxed else "")

    def text(self) -> str:
        """The table for a terminal."""
        lines = _table(self.protocol.figures, self.measured, self.published)
        return "\n".join(filter(None, [*lines, self.note, f"-> {self.folder / 'benchmark.md'}"]))

    def content(self) -> dict[str, object]:
        """Everything as plain data."""
        return {
            "protocol": asdict(self.protocol),
            "note": self.note,
            "measured": [asdict(one) for one in self.measured],
            "published": {
                "source": self.published_source,
                "rows": [asdict(one) for one in self.published],
            },
        }

    def write(self) -> None:
        """Write Markdown, PNG and, last, JSON."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.markdown(), self.folder / "benchmark.md")
        with atomic_path(self.folder / "benchmark.png") as temporary:
            self.draw().savefig(temporary, format="png", dpi=DOTS_PER_INCH)
        write_json(self.content(), self.folder / RESULT)

    def draw(self) -> Drawing:
        """A panel of bars for every figure that was measured; published rows in grey."""
        lines = [*self.measured, *self.published]
        shown = [
            f for f in self.protocol.figures if any(_value(o, f) is not None for o in self.measured)
        ]
        across = min(len(shown), PANELS_ACROSS)
        down = math.ceil(len(shown) / across)
        size = (2.4 + 1.7 * across, (0.9 + 0.3 * len(lines)) * down)
        figure = Drawing(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        axes = grid.flat[: len(shown)]
        colours = [BLUE] * len(self.measured) + [GREY] * len(self.published)
        for panel, column in zip(axes, shown, strict=True):
            heights = [_printed(_value(one, column), column) for one in lines]
            bars = panel.barh(range(len(lines)), np.nan_to_num(heights), color=colours)
            labels = ["" if math.isnan(h) else f"{h:.3g}" for h in heights]
            panel.bar_label(bars, labels, padding=2, fontsize=7)
            panel.set_title(heading(column).replace(", ", ",\n"), fontsize=8)
            panel.tick_params(labelsize=7)
            panel.margins(x=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        for empty in grid.flat[len(shown) :]:
            empty.remove()
        axes[0].set_yticks(range(len(lines)), [one.name for one in lines])
        axes[0].invert_yaxis()  # for all: they share it
        return figure


def heading(figure: Figure) -> str:
    """Heading of a column with the direction that is better."""
    return f"{figure.heading} {'↑' if figure.better == 'higher' else '↓'}"


def _compared(protocol: Protocol) -> str:
    """Which crystals are compared with what, in words."""
    if protocol.novel_against is None:
        return ""
    return (
        f" Uniqueness and novelty are those of the {protocol.compared} crystals, "
        f"novelty against: {protocol.novel_against}."
    )


def _value(line: Line, figure: Figure) -> float | None:
    return line.values.get(figure.name)


def _printed(value: float | None, figure: Figure) -> float:
    return math.nan if value is None else value * (100 if figure.unit == "%" else 1)


def _table(
    figures: Sequence[Figure], measured: Sequence[Line], papers: Sequence[Line]
) -> list[str]:
    """A Markdown table of all rows."""
    header = ["set", "crystals", "judged by", *map(heading, figures)]
    rows = [
        [
            mark.format(one.name),
            str(one.num or ""),
            one.judged_by,
            *(_cell(one, f) for f in figures),
        ]
        for mark, lines in (("**{}**", measured), ("*{}*", papers))
        for one in lines
    ]
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _cell(line: Line, figure: Figure) -> str:
    """A value as it is printed; a share of a known number with its standard error."""
    value = _value(line, figure)
    if value is None:
        return ""
    if figure.unit != "%":
        return f"{value:.3f}"
    if not (line.source and line.num and figure.sampled):  # published: as it was printed
        return f"{100 * value:.3g}"
    return f"{100 * value:.1f} ± {100 * standard_error(value, line.num):.1f}"


def standard_error(share: float, count: int) -> float:
    """Of a share of `count`, with two successes and two failures added: 0 of 5 is not certain."""
    padded = (share * count + 2) / (count + 4)
    return math.sqrt(padded * (1 - padded) / (count + 4))


def _bullets(title: str, items: Iterable[str]) -> str:
    lines = [f"- {item}" for item in items]
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


# Sets of crystals


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """How sets are judged and compared."""

    protocol: Protocol
    out: Path
    potential: str = "7net-l3i5"  # decides about stability
    device: str = "cpu"
    limit: int | None = None  # of the structures of a set, the first ones
    truth: Path | None = None  # known structures that are to be predicted

    def check(self, sets: Mapping[str, Path]) -> None:
        """Refuse what cannot be done, before anything is done.

        Raises:
            ValueError: If a source is missing, or options do not fit the protocol.
        """
        for name, source in sets.items():
            if not source.exists():
                raise ValueError(f"{name}: {source} does not exist")
            if self.limit is not None and is_run(source):
                raise ValueError(
                    f"limit is {self.limit}, but {source} is a run, whose crystals are in the order"
                    " of their rank: expected no limit, or the structures themselves"
                )
        is_prediction = self.protocol.kind == "prediction"
        if is_prediction != (self.truth is not None):
            wanted = "the known structures" if is_prediction else "no --truth"
            raise ValueError(f"truth is {self.truth}: protocol {self.protocol.name} takes {wanted}")
        if self.truth is not None and not self.truth.exists():
            raise ValueError(f"truth {self.truth} does not exist")


def is_run(source: Path) -> bool:
    """Whether a path is the folder of an earlier run."""
    return (source / RECORD).exists()


def parse_sets(source: Path, beside: Sequence[str]) -> dict[str, Path]:
    """Sets by name, the source first; the others come as name=path.

    Raises:
        ValueError: If one has no name that a folder can have, or a name comes twice.
    """
    whole = source.resolve()  # "." has no name
    sets = {whole.name if source.is_dir() else whole.stem: source}
    for text in beside:
        name, sign, path = text.partition("=")
        if not (name and sign and path) or "/" in name:
            raise ValueError(f"beside is {text!r}: expected name=path")
        if name in sets:
            raise ValueError(f"two sets are called {name!r}: expected different names")
        sets[name] = Path(path)
    return sets


def benchmark(sets: Mapping[str, Path], options: BenchmarkOptions, pool: Pool) -> Benchmarked:
    """Evaluate sets of crystals under a protocol and write the comparison.

    Args:
        sets: Files or folders by name of the set.
        options: How.
        pool: Processes to judge in.

    Raises:
        ValueError: If a source cannot be used, or options do not fit the protocol.
    """
    options.check(sets)
    measure = {"de novo": _de_novo, "prediction": _prediction, "conditional": _conditional}
    journal = Journal(pool, options.out / FINGERPRINTS)
    lines = measure[options.protocol.kind](sets, options, journal)
    papers = published(options.protocol.name)
    done = Benchmarked(
        protocol=options.protocol,
        measured=tuple(lines),
        published=tuple(
            Line(
                name=name,
                num=papers.num_structures,
                judged_by=papers.judged_by,
                values=dict(values),
                source="",
            )
            for name, values in papers.rows.items()
        )
        if papers
        else (),
        published_source=papers.source if papers else "",
        folder=options.out,
        note=_note(options.protocol),
    )
    done.write()
    journal.forget()
    return done


def _note(protocol: Protocol) -> str:
    """Which columns cannot be filled here, and what it takes."""
    if not protocol.coverage or has_matminer():
        return ""
    return 'COV-R and COV-P are empty: they need matminer, `pip install ".[coverage]"`.'


# De novo generation


@dataclass(frozen=True, kw_only=True)
class CrystalSet:
    """A set of judged crystals, a row of the judge's table and two structures each."""

    rows: Sequence[Row]
    raw: Sequence[Structure | None]  # None where it could not be read
    relaxed: Sequence[Structure | None] = field(default=())  # likewise

    @classmethod
    def read(cls, folder: Path) -> "CrystalSet":
        """The set that a run has left in its folder.

        Raises:
            ValueError: If table and structures do not fit together.
        """
        rows = pq.read_table(run_table(folder)).to_pylist()
        return cls(
            rows=rows,
            raw=_placed(folder / FRAMES, [row["error"] is None for row in rows]),
            relaxed=_placed(
                folder / RELAXED_FRAMES, [row.get("relaxed_cif") is not None for row in rows]
            ),
        )

    def column(self, name: str) -> np.ndarray:
        """Numbers of a column, NaN where there is none."""
        values = [row.get(name) for row in self.rows]
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    @property
    def judged_by(self) -> str:
        """Who relaxed and who decided."""
        names = {
            f"{row['relaxed_with']} relaxes, {row['potential']} decides, Materials Project hull"
            for row in self.rows
            if row["potential"]
        }
        return ", ".join(sorted(names))


def run_table(folder: Path) -> Path:
    """The table of a run.

    Raises:
        ValueError: If there is none.
    """
    for name in ("candidates.parquet", "scores.parquet"):
        if (folder / name).exists():
            return folder / name
    raise ValueError(f"{folder} holds no candidates.parquet or scores.parquet")


def _placed(frames: Path, present: Sequence[bool]) -> list[Structure | None]:
    """Structures of a file at the places of the rows they belong to."""
    found = [one.structure for one in read_structures(frames)] if any(present) else []
    if len(found) != sum(present):
        raise ValueError(f"{frames} holds {len(found)} structures: expected {sum(present)}")
    structures = iter(found)
    return [next(structures) if there else None for there in present]


def _de_novo(sets: Mapping[str, Path], options: BenchmarkOptions, journal: Journal) -> list[Line]:
    """A line for every set."""
    known = known_structures(options.protocol.novel_against)
    lines = []
    for name, source in sets.items():
        crystals = CrystalSet.read(judged(name, source, options, journal.pool))
        lines.append(
            Line(
                name=name,
                num=len(crystals.rows),
                judged_by=crystals.judged_by if options.protocol.relaxed else "",
                values=de_novo_figures(crystals, options.protocol, known, journal),
                source=str(source),
            )
        )
    return lines


def known_structures(name: str | None) -> Reference | None:
    """What crystals have to differ from to be novel."""
    if name is None:
        return None
    if name != TRAINING:
        return Reference.embedded()
    table = pq.read_table(embedded_table(), filters=[("split", "==", "train")])
    return Reference.from_table(table, name=TRAINING)


def judged(name: str, source: Path, options: BenchmarkOptions, pool: Pool) -> Path:
    """Folder with the judgement of a set: its own if it is a run, else one that is made here."""
    if is_run(source) and (not options.protocol.relaxed or (source / RELAXED_FRAMES).exists()):
        return source
    records = list(islice(read_structures(structure_file(source)), options.limit))
    folder = options.out / "judged" / name
    asked = {
        "relax": options.protocol.relaxed,
        "potential": options.potential,
        "structures_sha256": digest(records),
    }
    if is_run(folder) and json.loads((folder / RECORD).read_text())["arguments"] == asked:
        return folder
    judging = JudgeOptions(
        relax=options.protocol.relaxed,
        potential=options.potential,
        second_opinion=None,
        device=options.device,
    )
    judging.check()
    provenance = {"verb": "benchmark", "arguments": asked}
    judge_and_write([records], folder / "scores.csv", Stopwatch(), provenance, judging, pool)
    return folder


def structure_file(source: Path) -> Path:
    """Where the structures of a source are: a run has every crystal several times."""
    return source / FRAMES if is_run(source) else source


def digest(records: Sequence[StructureRecord]) -> str:
    """Changes with any structure of a set."""
    parts = [
        f"{one.name!r} {one.error if one.structure is None else structure_identity(one.structure)}"
        for one in records
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def de_novo_figures(
    crystals: CrystalSet, protocol: Protocol, known: Reference | None, journal: Journal
) -> Values:
    """Figures of a set of crystals: shares of all of them, distances, coverage, displacement.

    Args:
        crystals: Judged crystals.
        protocol: Its thresholds.
        known: What is not novel; None if the protocol does not ask.
        journal: Processes to compare structures in, and what is known of them already.
    """
    structure_valid = crystals.column("structure_valid") == 1
    composition_valid = crystals.column("composition_valid") == 1
    values: Values = {
        "structure_valid": _share(structure_valid),
        "composition_valid": _share(composition_valid),
        "valid": _share(structure_valid & composition_valid),
    }
    if protocol.w1_over is not None:
        valid = structure_valid & composition_valid
        values |= _w1(crystals, valid if protocol.w1_over == "valid" else np.ones_like(valid))
    if protocol.coverage:
        values |= _coverage(crystals, journal)
    if known is not None:
        unique, novel = _unique_and_novel(crystals, protocol, known, journal.pool)
        values |= {
            "unique": _share(unique),
            "novel": _share(novel),
            "unique_and_novel": _share(unique & novel),
        } | _stability(crystals, protocol, unique & novel)
    return values


def _share(passes: np.ndarray) -> float:
    return float(passes.mean())


def _w1(crystals: CrystalSet, which: np.ndarray) -> Values:
    """Distances of distributions, over the crystals that have a density."""
    densities = crystals.column("density")
    rows = np.flatnonzero(which & np.isfinite(densities))
    if not len(rows):
        return {"w1_density": None, "w1_n_ary": None}
    found = distances(
        densities[rows].tolist(),
        [crystals.rows[row]["chemical_system"].count("-") + 1 for row in rows],
        embedded_crystals("test"),
    )
    return {"w1_density": found.density, "w1_n_ary": found.n_ary}


def _coverage(crystals: CrystalSet, journal: Journal) -> Values:
    """COV-R and COV-P over all crystals; None without matminer."""
    if not has_matminer():
        return {"cov_recall": None, "cov_precision": None}
    answers = journal.ask(FINGERPRINT, [one for one in crystals.raw if one is not None])
    found = [None if isinstance(one, Failure) else one for one in answers]
    unread = [None] * (len(crystals.rows) - len(found))
    covered = coverage([*found, *unread], known_fingerprints())
    return {"cov_recall": covered.recall, "cov_precision": covered.precision}


def _unique_and_novel(
    crystals: CrystalSet, protocol: Protocol, known: Reference, pool: Pool
) -> tuple[np.ndarray, np.ndarray]:
    """Which crystals are the first of their kind and which equal no known one.

    They come best first, so that of equal crystals the most stable one counts.
    """
    structures = crystals.relaxed if protocol.compared == "relaxed" else crystals.raw
    there = [index for index, one in enumerate(structures) if one is not None]
    names = [str(crystals.rows[index]["name"]) for index in there]
    found = novelty([structures[index] for index in there], names, reference=known, pool=pool)
    unique, novel = (np.zeros(len(structures), dtype=bool) for _ in range(2))
    for index, one in zip(there, found, strict=True):
        if isinstance(one, Novelty):  # where comparing broke, nothing is known
            unique[index], novel[index] = one.is_unique, bool(one.is_novel)
    return unique, novel


def _stability(crystals: CrystalSet, protocol: Protocol, new: np.ndarray) -> Values:
    """Shares of stable crystals, counted with the potential and expected of DFT."""
    raw = crystals.column("e_above_hull_raw")
    rmsd = crystals.column("rmsd")
    moved = rmsd[np.isfinite(rmsd)]
    values: Values = {"rmsd": float(moved.mean()) if len(moved) else None}
    for name, sun, threshold in (
        ("stable", "sun", protocol.stable_below),
        ("metastable", "msun", protocol.metastable_below),
    ):
        if threshold is not None:
            stable = raw <= threshold
            expected = np.nan_to_num(crystals.column(_PROBABILITIES[threshold]))
            values |= {
                name: _share(stable),
                f"expected_{name}": _share(expected),
                sun: _share(stable & new),
                f"expected_{sun}": _share(expected * new),
            }
    return values


# Crystal structure prediction


def _prediction(
    sets: Mapping[str, Path], options: BenchmarkOptions, journal: Journal
) -> list[Line]:
    """A line for every set against the same known structures."""
    truths = [one for one in _ordered(read_structures(options.truth)) if one is not None]
    lines = []
    for name, source in sets.items():
        records = islice(read_structures(structure_file(source)), options.limit)
        found = predicted(_ordered(records), truths, pool=journal.pool, ordered=not is_run(source))
        lines.append(
            Line(
                name=name,
                num=found.num_known,
                judged_by=f"paired by {found.paired}, {found.num_samples} samples",
                values={f.name: getattr(found, f.name) for f in options.protocol.figures},
                source=str(source),
            )
        )
    return lines


def _ordered(records: Iterable[StructureRecord]) -> list[Structure | None]:
    """Bare structures, None where one cannot be read or is disordered."""
    read = (
        Failure(one.error) if one.structure is None else attempt(ordered_structure, one.structure)
        for one in records
    )
    return [None if isinstance(one, Failure) else one for one in read]


# Property targets


def _conditional(
    sets: Mapping[str, Path], options: BenchmarkOptions, journal: Journal
) -> list[Line]:
    """A line for every target of every run."""
    return [line for name, source in sets.items() for line in _target_lines(name, source)]


def _target_lines(name: str, source: Path) -> list[Line]:
    """A line for every target of a run.

    Raises:
        ValueError: If the source is no run, or one without targets.
    """
    summary = source / "summary.json"
    targets = json.loads(summary.read_text()).get("targets") if summary.exists() else None
    if not targets:
        raise ValueError(f"{source} has no targets: expected a folder of `generate --condition`")
    rows = pq.read_table(run_table(source)).to_pylist()
    return [
        Line(
            name=f"{name}: {one['target']}",
            num=one["num_measured"],
            judged_by="oracles of the run",
            values={
                "rate": one["rate"],
                "base_rate": one["base_rate"],
                "enrichment": one["rate"] / one["base_rate"]
                if one["base_rate"] and one["rate"] is not None
                else None,
                "mae": mean_error(rows, one["target"]),
            },
            source=str(source),
        )
        for one in targets
    ]


def mean_error(rows: Sequence[Row], name: str) -> float | None:
    """Mean absolute difference of numbers asked and found; None if they are no numbers."""
    pairs = [
        (row.get(f"target_{name}"), row.get(f"{how}_{name}"))
        for row in rows
        for how in ("measured", "predicted")
    ]
    errors = [
        abs(measured - asked)
        for asked, measured in pairs
        if isinstance(asked, float) and isinstance(measured, float) and math.isfinite(measured)
    ]
    return sum(errors) / len(errors) if errors else None
