"""Opens what commands share: folders, processes and input files."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mattergen_lite.folders import check_free, claimed
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.options.request import Request

if TYPE_CHECKING:
    from mattergen_lite.processes import Pool
    from mattergen_lite.request.protocol import Constraints
    from mattergen_lite.runs.folder import RunFolder

JUDGE = "mattergen_lite.scoring.judge"  # what judging processes import while others still work

OutFolder = Annotated[Path | None, Parameter(required=True)]  # by the command line only


def cores(num_workers: int | None) -> int:
    """How many processes to use; by default one a core."""
    from mattergen_lite.processes import available_cores

    return available_cores() if num_workers is None else num_workers


def check_source(source: Path, out: Path | None) -> None:
    """Refuse a source that does not exist, unless the place of the results is taken.

    Raises:
        ValueError: If it does not exist, or another run writes to `out`.
    """
    with nullcontext() if out is None else claimed(out):
        if not source.exists():
            raise ValueError(f"{source} does not exist")


def check_request(request: Request, out: Path | None = None) -> "Constraints":
    """Read the constraints of a request; refuse texts that cannot be read or contradict each other.

    This needs no model. What only a model can tell, such as its properties, is refused later.

    Raises:
        ValueError: If there is such a text, the seed structure does not exist, or another run
            writes to `out`.
    """
    from mattergen_lite.request.constraints import check_texts
    from mattergen_lite.request.texts import parse_conditions, parse_guidance

    with nullcontext() if out is None else claimed(out):
        parse_guidance(request.guidance, parse_conditions(request.condition))
        return check_texts(request)


def check_judging(
    judge: JudgeOptions,
    best: ShortlistOptions | None = None,
    *,
    has_targets: bool = False,
    has_symmetry: bool = False,
    goal: Goal = "discover",
) -> None:
    """Refuse options of the judge that contradict each other or name files that do not exist.

    Raises:
        ValueError: If there are such options.
    """
    from mattergen_lite.runs.dft_codes import parse_codes
    from mattergen_lite.runs.recipes import parse_recipes

    judge.checks(has_targets=has_targets, has_symmetry=has_symmetry, goal=goal)
    if best is not None:
        best.check(judge)
        if best.verify and goal != "discover":
            raise ValueError("verify: expected `generate` or `score`, whose crystals it can rank")
        parse_codes(best.dft_codes)
        parse_recipes(best.dft_sets)
    named = {"reference": judge.reference, "calibration": (judge.calibration,)}
    for name, path in [(name, path) for name, paths in named.items() for path in paths if path]:
        if not path.exists():
            raise ValueError(f"{name} {path} does not exist")


@contextmanager
def judging_in(
    out: Path | None, num_workers: int | None, *, overwrite: bool = False
) -> Iterator[tuple["Pool", "RunFolder | None"]]:
    """Hold the folder of results, if there is one, and have the processes that judge.

    Raises:
        ValueError: If the folder holds an earlier run that may not be replaced.
    """
    from mattergen_lite.processes import Pool

    check_free(out, overwrite=overwrite)  # before anything slow is loaded
    held = nullcontext() if out is None else claimed(out)
    with held, Pool(cores(num_workers), preload=JUDGE) as pool:
        from mattergen_lite.runs.folder import RunFolder

        place = None if out is None else RunFolder(out)
        if place is not None:
            place.check_free(overwrite=overwrite)
        yield pool, place


def configuration(text: str) -> Path:
    """A configuration file on disk or, failing that, the shipped one of that name."""
    from mattergen_lite.config import shipped

    path = Path(text)
    return path if path.exists() else shipped("configs") / path.name
