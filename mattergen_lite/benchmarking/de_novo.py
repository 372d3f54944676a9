"""De novo generation: validity, distributions, coverage and S.U.N. of sets of crystals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mattergen_lite.benchmarking.comparison import Line, Values
from mattergen_lite.benchmarking.protocols import TRAINING, Protocol
from mattergen_lite.benchmarking.sets import BenchmarkOptions, CrystalSet, judged
from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.data.materials import known_rows
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.criteria.novelty import novelty
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.coverage import (
    FINGERPRINT,
    coverage,
    has_matminer,
    known_fingerprints,
)
from mattergen_lite.scoring.metrics.distributions import distances
from mattergen_lite.scoring.metrics.summary import share_of, sun_shares

# The probabilities that the judge states, by threshold in eV/atom.
_PROBABILITIES = {0.0: "probability_stable", 0.1: "probability_metastable"}


def de_novo(
    sets: Mapping[str, Path], options: BenchmarkOptions, result_cache: ResultCache
) -> list[Line]:
    """A line for every set."""
    known = novelty_reference(options.protocol.novel_against)
    lines = []
    for name, source in sets.items():
        crystals = CrystalSet.read(judged(name, source, options, result_cache.pool))
        values, num_missing = de_novo_figures(crystals, options.protocol, known, result_cache)
        lines.append(
            Line(
                name=name,
                num=len(crystals.rows),
                judged_by=crystals.judged_by if options.protocol.relaxed else "",
                values=values,
                source=str(source),
                note=_note(name, num_missing),
            )
        )
    return lines


def _note(name: str, num_missing: int) -> str:
    """What the shares of a set leave out, in words."""
    if not num_missing:
        return ""
    return (
        f"{num_missing} crystals of {name} could not be compared: unique, novel and S.U.N. are "
        "shares of the others."
    )


def novelty_reference(name: str | None) -> Reference | None:
    """Load the known structures that a novel crystal differs from."""
    if name is None:
        return None
    if name != TRAINING:
        return Reference.embedded()
    return Reference.from_table(known_rows("train"), name=TRAINING)


def de_novo_figures(
    crystals: CrystalSet, protocol: Protocol, known: Reference | None, result_cache: ResultCache
) -> tuple[Values, int]:
    """Figures of a set of crystals: shares of all of them, distances, coverage, displacement.

    Figures about unique and novel crystals leave out those that could not be compared, whose number
    is returned beside them. Nothing is novel or known if `known` is None.
    """
    structure_valid = crystals.column("structure_valid") == 1
    composition_valid = crystals.column("composition_valid") == 1
    values: Values = {
        "structure_valid": share_of(structure_valid),
        "composition_valid": share_of(composition_valid),
        "valid": share_of(structure_valid & composition_valid),
    }
    if protocol.w1_over is not None:
        valid = structure_valid & composition_valid
        values |= _w1(crystals, valid if protocol.w1_over == "valid" else np.ones_like(valid))
    if protocol.coverage:
        values |= _coverage(crystals, result_cache)
    if known is not None:
        unique, novel, compared = _unique_and_novel(crystals, protocol, known, result_cache.pool)
        values |= {
            "unique": share_of(unique, compared),
            "novel": share_of(novel, compared),
            "unique_and_novel": share_of(unique & novel, compared),
        } | _stability(crystals, protocol, unique & novel, compared)
        return values, int((~compared).sum())
    return values, 0


def _w1(crystals: CrystalSet, which: np.ndarray) -> Values:
    """Distances of distributions, over the crystals that have a density."""
    densities = crystals.column("density")
    rows = np.flatnonzero(which & np.isfinite(densities))
    if not len(rows):
        return {"w1_density": None, "w1_n_ary": None}
    measured = distances(
        densities[rows].tolist(),
        [crystals.rows[row]["chemical_system"].count("-") + 1 for row in rows],
        embedded_crystals("test"),
    )
    return {"w1_density": measured.density, "w1_n_ary": measured.n_ary}


def _coverage(crystals: CrystalSet, result_cache: ResultCache) -> Values:
    """COV-R and COV-P over all crystals; None without matminer."""
    if not has_matminer():
        return {"cov_recall": None, "cov_precision": None}
    answers = result_cache.ask(
        FINGERPRINT, [structure for structure in crystals.raw if structure is not None]
    )
    fingerprints = [None if isinstance(answer, Failure) else answer for answer in answers]
    unread = [None] * (len(crystals.rows) - len(fingerprints))
    covered = coverage([*fingerprints, *unread], known_fingerprints())
    return {"cov_recall": covered.recall, "cov_precision": covered.precision}


def _unique_and_novel(
    crystals: CrystalSet, protocol: Protocol, known: Reference, pool: Pool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which crystals are the first of their kind, which equal no known one, which were compared."""
    structures = crystals.relaxed if protocol.compared == "relaxed" else crystals.raw
    readable = [index for index, structure in enumerate(structures) if structure is not None]
    names = [str(crystals.rows[index]["name"]) for index in readable]
    novelties = novelty(
        [structures[index] for index in readable], names, reference=known, pool=pool
    )
    unique, novel, unknown = (np.zeros(len(structures), dtype=bool) for _ in range(3))
    for index, verdict in zip(readable, novelties, strict=True):
        unique[index], novel[index] = bool(verdict.is_unique), bool(verdict.is_novel)
        unknown[index] = verdict.is_unknown
    return unique, novel, ~unknown


def _stability(
    crystals: CrystalSet, protocol: Protocol, new: np.ndarray, compared: np.ndarray
) -> Values:
    """Shares of stable crystals, counted with the potential and expected of DFT."""
    raw = crystals.column("e_above_hull_raw")
    rmsd = crystals.column("rmsd")
    moved = rmsd[np.isfinite(rmsd)]
    values: Values = {"rmsd": float(moved.mean()) if len(moved) else None}
    for names, threshold in (
        (("stable", "sun"), protocol.stable_below),
        (("metastable", "msun"), protocol.metastable_below),
    ):
        if threshold is not None:
            expected = crystals.column(_PROBABILITIES[threshold])
            values |= sun_shares(names, raw <= threshold, expected, new, compared)
    return values
