"""The command `library export`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed_file
from mattergen_lite.options.flat import flat
from mattergen_lite.verbs.workspace import check_source

if TYPE_CHECKING:
    from mattergen_lite.library.exchange import Exchanged


@flat
def library_export(source: Path, destination: str, /, *, passed_only: bool = False) -> "Exchanged":
    """Write judged crystals as a database that others can search.

    Every crystal keeps its name: exporting again adds what is new.

    Args:
        source: Folder of a campaign, or of a run of generate or score.
        destination: library.db (ASE, SQLite), postgresql://user:password@host:port/name (ASE,
            PostgreSQL) or library.jsonl (OPTIMADE JSON Lines, which OPTIMADE servers publish).
        passed_only: Leave out what fails a check.

    Raises:
        ValueError: If the source holds nothing or the destination is of an unknown kind.
    """
    check_source(source)
    from mattergen_lite.library.exchange import export

    with nullcontext() if "://" in destination else claimed_file(Path(destination)):
        return export(source, destination, passed_only=passed_only)
