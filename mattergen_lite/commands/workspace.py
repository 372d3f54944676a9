"""Opens what commands share: folders, processes and input files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mattergen_lite.files.folders import check_free, claimed
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.options.request import EMBEDDED, NEW_FRAMEWORKS, Request
from mattergen_lite.scoring.checking import check_judging

if TYPE_CHECKING:
    from mattergen_lite.processes import Pool
    from mattergen_lite.request.protocol import Constraints
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


def check_request(request: Request, out: Path | None = None) -> "Constraints":
    """Read the constraints of a request; refuse texts that cannot be read or contradict each other.

    This loads no model. What only its weights can tell, such as elements, is refused later.

    Raises:
        ValueError: If there is such a text, the seed structure or the model does not exist, or
            another run writes to `out`.
    """
    from mattergen_lite.request.constraints import check_texts

    with claimed(out):
        constraints = check_texts(request)
        if request.propose == "model":
            _check_model(request, constraints)
        return constraints


def check_design(
    request: Request,
    judge: JudgeOptions,
    best: ShortlistOptions | None = None,
    *,
    out: Path | None,
    goal: Goal = "discover",
) -> None:
    """Refuse a request, and options of the judge of its samples, that make no sense.

    Raises:
        ValueError: As `check_request`, `check_judging` and `check_dft_inputs`.
    """
    constraints = check_request(request, out)
    check_judging(
        judge,
        best,
        has_targets=bool(request.condition),
        has_symmetry=constraints.space_groups is not None,
        goal=goal,
    )
    check_dft_inputs(best)


def _check_model(request: Request, constraints: "Constraints") -> None:
    """Refuse a missing model, sizes that it does not make, values its properties cannot have."""
    from mattergen_lite.hub import find_checkpoint, is_hub_name, read_config
    from mattergen_lite.request.values import known_property, parse_values

    if is_hub_name(request.checkpoint):  # not fetched before the rest is right
        return
    config = read_config(find_checkpoint(request.checkpoint))
    if request.seed_structure is None:  # which takes room, too
        constraints.atom_counts(config.max_atoms)
    properties = config.properties
    for asked in request.condition:
        if not request.probe or asked.name in {prop.name for prop in properties}:
            parse_values(known_property(asked.name, properties), asked)


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
    out: Path | None, num_workers: int | None, *, overwrite: bool = False
) -> Iterator[tuple["Pool", "RunFolder | None"]]:
    """Hold the folder of results, if there is one, and have the processes that judge.

    Raises:
        ValueError: If the folder holds an earlier run that may not be replaced.
    """
    from mattergen_lite.processes import Pool

    check_free(out, overwrite=overwrite)  # before anything slow is loaded
    with claimed(out), Pool(cores(num_workers), preload=JUDGE) as pool:
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
