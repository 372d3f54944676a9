"""Refuses options of the judge that cannot be met, before anything slow is loaded."""

from importlib.util import find_spec

from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions


def check_judging(
    judge: JudgeOptions,
    best: ShortlistOptions | None = None,
    *,
    has_targets: bool = False,
    has_symmetry: bool = False,
    goal: Goal = "discover",
) -> None:
    """Refuse options of the judge that contradict each other or name what does not exist.

    Raises:
        ValueError: If there are such options.
    """
    judge.checks(has_targets=has_targets, has_symmetry=has_symmetry, goal=goal)
    if best is not None:
        best.check(judge)
        if best.verify and goal != "discover":
            raise ValueError("verify: expected `generate` or `score`, whose crystals it can rank")
        if best.phonons:
            require_phonopy()
    for given in (judge.potential, judge.second_opinion, judge.relaxer):
        _check_potential(given)
    named = {"reference": judge.reference, "calibration": (judge.calibration,)}
    for name, path in [(name, path) for name, paths in named.items() for path in paths if path]:
        if not path.exists():
            raise ValueError(f"{name} {path} does not exist")


def require_phonopy() -> None:
    """Check that phonons can be computed at all.

    Raises:
        ValueError: If phonopy is not installed.
    """
    if find_spec("phonopy") is None:
        raise ValueError(
            "phonopy is not installed, expected `pip install '.[phonons]'` in the source folder"
        )


def _check_potential(given: object) -> None:
    """Refuse a potential by name that cannot be had; those by default can."""
    if not isinstance(given, str) or given in (JudgeOptions.potential, JudgeOptions.relaxer):
        return
    from mattergen_lite.scoring.energy.potentials.sources import check_potential

    check_potential(given)
