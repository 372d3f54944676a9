"""What commands share: the folder they hold, the processes they use, the files they are given."""

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
    from mattergen_lite.runs.folder import RunFolder

JUDGE = "mattergen_lite.scoring.judge"  # what judging processes import while others still work

OutFolder = Annotated[Path | None, Parameter(required=True)]  # by the command line only


def cores(num_workers: int | None) -> int:
    """How many processes to use; by default one a core."""
    from mattergen_lite.processes import available_cores

    return available_cores() if num_workers is None else num_workers


def check_request(request: Request) -> None:
    """Refuse texts of a request that cannot be read or that contradict each other.

    This needs no model. What only a model can tell, such as its properties, is refused later.

    Raises:
        ValueError: If there is such a text, or the seed structure does not exist.
    """
    from mattergen_lite.request.constraints import check_texts
    from mattergen_lite.request.texts import parse_conditions, parse_guidance

    check_texts(request)
    parse_guidance(request.guidance, parse_conditions(request.condition))


def check_judging(
    judge: JudgeOptions,
    best: ShortlistOptions | None = None,
    *,
    has_targets: bool = False,
    goal: Goal = "discover",
) -> None:
    """Refuse options of the judge that contradict each other or name files that do not exist.

    Raises:
        ValueError: If there are such options.
    """
    from mattergen_lite.runs.dft_codes import parse_codes
    from mattergen_lite.runs.recipes import parse_recipes

    judge.checks(has_targets=has_targets, goal=goal)
    if best is not None:
        best.check(judge)
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
