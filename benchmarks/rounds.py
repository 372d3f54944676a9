"""Yields and elements of runs of `generate`, one after the other: what learning from them changes.

    python benchmarks/rounds.py first=RUN second=RUN

"M.S.U.N." is the sum of the probabilities of being metastable over unique and novel crystals that
were relaxed, "credible" likewise of those above P-1 that are not disorder-like; elements are those
of the crystals that pass every check. A generator that learns from what passes may drift towards a
few chemical systems, towards rare earths, or towards elements that few countries produce.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from measuring import Row, report

from mattergen_lite import load
from mattergen_lite.workflows.discovery import drift


def figures(name: str, folder: Path) -> Row:
    """One row of the table."""
    judged = load(folder)
    stability = judged.summary().stability
    if stability is None:
        raise SystemExit(f"{folder}: expected a run with relaxations")
    relaxed = sum(candidate.stability is not None for candidate in judged)
    msun = stability.expected_msun * len(judged)
    credible = stability.expected_credible_msun * len(judged)
    passed = judged.passed
    drifted = drift(passed)
    return {
        "run": name,
        "samples": len(judged),
        "relaxed": relaxed,
        "M.S.U.N.": msun,
        "credible": credible,
        "M.S.U.N. of relaxed": msun / relaxed,
        "credible of relaxed": credible / relaxed,
        "passed": len(passed),
        "systems per passed": drifted["num_systems"] / max(1, len(passed)),
        "rare earths": drifted["rare_earth_share"],
        "mean HHI": drifted["mean_hhi"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="name=folder of a run with relaxations")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    choice = parser.parse_args(arguments)
    runs = [run.partition("=") for run in choice.runs]
    rows = [figures(name, Path(folder)) for name, _, folder in runs]
    report(rows, {"benchmark": "rounds"}, choice.json)


if __name__ == "__main__":
    main()
