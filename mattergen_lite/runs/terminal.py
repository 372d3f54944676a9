"""Prints a run in ten lines: the best candidates, the funnel and the next step."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from mattergen_lite.console import text_table
from mattergen_lite.options.judge import CHECKS
from mattergen_lite.runs.headline import Headline, duration
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED

NUM_SHOWN = 5  # of the best candidates
WIDTHS = (4, 11, 13, 8, 31)  # of the columns, at least
_ADVICE = {check.name: check.advice for check in CHECKS}


def brief(
    candidates: Sequence[Candidate],
    headline: Headline,
    *,
    is_sampled: bool,
    asked_for: int | None = None,
) -> Iterator[str]:
    """Lines about the candidates, the funnel, the expectation and, if need be, the next step.

    Advice to sample more is for candidates that were sampled. `asked_for` is the wanted number of
    candidates; None if a number of samples was wanted.
    """
    wanted = NUM_SHOWN if asked_for is None else max(asked_for, headline.num_delivered)
    shown = candidates[: min(wanted, 2 * NUM_SHOWN)]
    yield from text_table(
        [_cells(candidate) for candidate in shown], widths=WIDTHS, left=range(1, 6)
    )
    yield " -> ".join(f"{count} {name}" for name, count in headline.left.items())
    yield f"{_expectation(headline)}; {duration(headline.seconds)}"
    if headline.num_delivered == 0:
        yield _why_nothing(headline, is_sampled=is_sampled)
    if asked_for is not None and headline.num_delivered < asked_for:
        yield (
            f"{headline.num_delivered} of {asked_for} candidates found: raise --max-samples, "
            "--time-budget or --keep, or ask for less with --require"
        )


def _cells(candidate: Candidate) -> tuple[str, ...]:
    """Rank, name, formula, group, energy, and the checks in words."""
    final, stability = candidate.final, candidate.stability
    group = final.symmetry.space_group_symbol if final.symmetry else ""
    energy = "energy unknown"
    if stability is not None and stability.stability_error is None:
        energy = f"{stability.stated_energy}, P {stability.probability_metastable:.2f}"
    elif stability is None:
        energy = "not relaxed"
    checks, *more = candidate.verdict.split("; ")
    said = (
        "flags",
        "doubtful",
        "known as",
        "a polymorph",
        *(outcome.property for outcome in candidate.outcomes),
    )
    problem = final.validity.physical_problem if final.validity else ""
    doubts = [part for part in more if part.startswith(said) or part in problem.split("; ")]
    name, formula = candidate.raw.name, candidate.raw.formula or "-"
    return str(candidate.rank), name, formula, group, energy, "; ".join([checks, *doubts])


def _expectation(headline: Headline) -> str:
    passed = f"{headline.num_delivered} of {headline.num_all} pass every required check"
    if headline.wanted:
        passed = f"{headline.num_delivered} delivered{headline.wanted}, of {headline.num_all}"
    if headline.expected_msun is None:
        return passed
    doubt = "" if headline.is_calibrated else f" ({UNCALIBRATED})"
    return f"{passed}; {headline.expected_msun:.1f} expected metastable, unique and novel{doubt}"


def _why_nothing(headline: Headline, *, is_sampled: bool) -> str:
    """The check that let nothing through, and what to do."""
    steps = list(headline.left.items())
    place = next((k for k, (_, count) in enumerate(steps) if count == 0), len(steps) - 1)
    name, before = steps[place][0], steps[place - 1][1]
    reason = f"nothing passes: none of {before} is {name.replace('_', ' ')}"
    counts = [count for _, count in steps[: place + 1]]
    lost, most = max(((a - b, i) for i, (a, b) in enumerate(pairwise(counts), 1)), default=(0, 0))
    if most != place and lost > before:
        reason += f"; most fail {steps[most][0].replace('_', ' ')} ({lost} of {counts[most - 1]})"
    if not is_sampled and name not in ("readable", "novel"):
        return f"{reason}; column failed_checks of the table has the reasons of each crystal"
    more = ""
    if name == "metastable" and headline.expected_msun:
        needed = steps[0][1] / headline.expected_msun
        more = f" (at this rate one takes about {needed:,.0f} samples)"
    return f"{reason}; {_ADVICE.get(name, 'column failed_checks has the reasons')}{more}"
