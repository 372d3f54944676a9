"""Opens what commands share: folders, processes and input files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mattergen_lite.files.folders import check_free, claimed
from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.options.request import EMBEDDED, NEW_FRAMEWORKS

if TYPE_CHECKING:
    from mattergen_lite.processes import Pool
    from mattergen_lite.runs.folder import RunFolder

TABLES = (EMBEDDED, NEW_FRAMEWORKS)  # in the package, which may stand in place of a file
JUDGE = "mattergen_lite.scoring.judge"  # what judging processes import while others still work

OutFolder = Annotated[Path | None, Parameter(required=True)]  # by the command line only


def cores(num_workers: int | None) -> int:
    """How many processes to use; by default one a core."""
    from mattergen_lite.processes import available_cores

    return available_cores() if num_workers is None else num_workers


def check_source(source: Path, out: Path | None = None, *, tables: Sequence[str] = ()) -> None:
    """Refuse a source that does not exist before much is loaded to read it.

    Args:
        source: Given by the user.
        out: Folder of the results.
        tables: Names of tables in the package that may stand in place of a file.

    Raises:
        ValueError: If it does not exist, or another run writes to `out`.
    """
    with claimed(out):
        if not source.exists() and str(source) not in tables:
            raise ValueError(f"{source} does not exist")


def check_dft_inputs(best: ShortlistOptions | None) -> None:
    """Refuse programs and sets of DFT inputs that do not exist.

    Raises:
        ValueError: If there are such.
    """
    from mattergen_lite.runs.dft_codes import parse_codes
    from mattergen_lite.runs.recipes import parse_recipes

    if best is not None:
        parse_codes(best.dft_codes)
        parse_recipes(best.dft_sets)


@contextmanager
def judging_in(
    out: Path | None,
    num_workers: int | None,
    *,
    overwrite: bool = False,
    preload: str | None = JUDGE,
) -> Iterator[tuple["Pool", "RunFolder | None"]]:
    """Hold the folder of results, if there is one, and have the processes that judge.

    The processes import the module that they preload at once, else when they are needed.

    Raises:
        ValueError: If the folder holds an earlier run that may not be replaced.
    """
    from mattergen_lite.processes import Pool

    check_free(out, overwrite=overwrite)  # before anything slow is loaded
    with claimed(out), Pool(cores(num_workers), preload=preload) as pool:
        from mattergen_lite.runs.folder import RunFolder

        check_free(out, overwrite=overwrite)
        yield pool, None if out is None else RunFolder(out)


def configuration(text: str) -> Path:
    """A configuration file on disk or, failing that, the shipped one of that name.

    Raises:
        ValueError: If there is neither.
    """
    from mattergen_lite.config import shipped

    path = Path(text)
    chosen = path if path.exists() else shipped("configs") / path.name
    if not chosen.exists():
        known = ", ".join(sorted(config.name for config in shipped("configs").glob("*.yaml")))
        raise ValueError(f"cannot read configuration {text}: expected a file, or one of {known}")
    return chosen
