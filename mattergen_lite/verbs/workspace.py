"""What commands share: the folder they hold, the processes they use, the files they are given."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mattergen_lite.folders import claimed

if TYPE_CHECKING:
    from mattergen_lite.processes import Pool
    from mattergen_lite.runs.folder import RunFolder

JUDGE = "mattergen_lite.scoring.judge"  # what judging processes import while others still work

OutFolder = Annotated[Path | None, Parameter(required=True)]  # by the command line only


def cores(num_workers: int | None) -> int:
    """How many processes to use; by default one a core."""
    from mattergen_lite.processes import available_cores

    return available_cores() if num_workers is None else num_workers


@contextmanager
def judging_in(
    out: Path | None, num_workers: int | None, *, overwrite: bool = False
) -> Iterator[tuple["Pool", "RunFolder | None"]]:
    """Hold the folder of results, if there is one, and have the processes that judge.

    Raises:
        ValueError: If the folder holds an earlier run that may not be replaced.
    """
    from mattergen_lite.processes import Pool

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
