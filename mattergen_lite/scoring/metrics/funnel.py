"""From many to few: how many candidates pass each check and all before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from mattergen_lite.options.judge import CHEAP_CHECKS, CHECK_NAMES, CHECKS
from mattergen_lite.scoring.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Counts of what is left after each check, in the order of cost."""

    num_sampled: int
    left: dict[str, int]  # check -> candidates that pass it and every one before
    passed: tuple[str, ...] | None = None  # their names; None where only counts were kept

    @property
    def num_passed(self) -> int:
        """Candidates that pass every required check."""
        return min(self.left.values(), default=self.num_sampled)

    @property
    def hit_rate(self) -> float:
        """Share of all samples that pass everything."""
        return self.num_passed / self.num_sampled if self.num_sampled else 0.0

    def text(self) -> str:
        """One line: "64 sampled -> 60 physical -> 47 neutral (73%)"."""
        steps = [f"{self.num_sampled} sampled", *(f"{n} {name}" for name, n in self.left.items())]
        return f"{' -> '.join(steps)} ({self.hit_rate:.1%})"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the judge in the order in which it is made."""

    name: str
    num_entered: int  # that passed every stage before
    num_passed: int
    seconds: float | None  # of the whole set; None: within those of a stage named before

    @property
    def pass_rate(self) -> float | None:
        """Share of what entered that passed; None if nothing did."""
        return self.num_passed / self.num_entered if self.num_entered else None

    def figures(self) -> dict[str, object]:
        """Its numbers as plain data."""
        return asdict(self) | {"pass_rate": self.pass_rate}


# Stage -> where its time is in the record of a run, by the name of what was timed.
_CLOCKS = {
    "sampled": ("structures", "reading"),
    "readable": ("judging",),
    "unique": ("comparing",),
    "screened": ("screening",),
    "relaxed": ("relaxing",),
    "released": ("releasing",),
    "still_unique": ("judging relaxed",),
}


def stages(candidates: Sequence[Candidate], seconds: Mapping[str, float]) -> list[Stage]:
    """What enters and what passes every stage, raw crystals first, then relaxed ones.

    Cheap checks are of the raw crystal; those of the relaxed one come after. Controls of the screen
    count as passed, and what is off target comes before the screen.
    """
    passes: dict[str, Callable[[Candidate], bool | None]] = {
        name: _raw_check(name) for name in CHEAP_CHECKS
    }
    if any(candidate.outcomes for candidate in candidates):
        passes["on_target"] = _may_be_on_target
    if any(candidate.screening for candidate in candidates):
        passes["screened"] = _check("screened")
    has_symmetry = any(candidate.space_groups is not None for candidate in candidates)
    if any(candidate.stability for candidate in candidates):
        passes |= {
            "relaxed": lambda candidate: candidate.relaxed_structure is not None,
            "released": lambda candidate: candidate.relaxed_structure is not None,
            **({"kept_symmetry": _check("kept_symmetry")} if has_symmetry else {}),
            **{check.name: _check(check.name) for check in CHECKS if check.needs == "relaxation"},
            "still_unique": _check("unique"),
            "still_novel": _check("novel"),
        }
    remaining = list(candidates)
    stages_so_far = [_stage("sampled", len(remaining), len(remaining), seconds)]
    for name, passed in passes.items():
        entered, remaining = (
            len(remaining),
            [candidate for candidate in remaining if passed(candidate)],
        )
        stages_so_far.append(_stage(name, entered, len(remaining), seconds))
    return stages_so_far


def _check(name: str) -> Callable[[Candidate], bool]:
    return lambda candidate: not candidate.misses(name)


def _may_be_on_target(candidate: Candidate) -> bool:
    """Whether a crystal is on target, or was screened out before anybody could tell."""
    if candidate.on_target is None:
        return candidate.screening is not None and not candidate.checks["screened"]
    return candidate.on_target


def _raw_check(name: str) -> Callable[[Candidate], bool]:
    """Check of the crystal before relaxation."""
    return lambda candidate: not Candidate(raw=candidate.raw, structure=None).misses(name)


def _stage(name: str, entered: int, passed: int, seconds: Mapping[str, float]) -> Stage:
    clocks = [seconds[clock] for clock in _CLOCKS.get(name, ()) if clock in seconds]
    return Stage(
        name=name,
        num_entered=entered,
        num_passed=passed,
        seconds=round(sum(clocks), 3) if clocks else None,
    )


def funnel(candidates: Sequence[Candidate], required: Sequence[str]) -> Funnel:
    """Count the candidates that pass the required checks, one after the other.

    A check that was not made lets nothing through: what is required must have been seen. Charges
    that are unassigned stop nothing.
    """
    left, remaining = {}, list(candidates)
    for name in (name for name in CHECK_NAMES if name in required):
        is_open = name == "on_target" and "screened" in required
        passed = _may_be_on_target if is_open else _check(name)
        remaining = [candidate for candidate in remaining if passed(candidate)]
        left[name] = len(remaining)
    names = tuple(candidate.raw.name for candidate in remaining)
    return Funnel(num_sampled=len(candidates), left=left, passed=names)
