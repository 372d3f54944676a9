"""The commands of the group `library`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import check_source
from mattergen_lite.files.folders import claimed_file
from mattergen_lite.options.checks import Count, NameOrPath, Texts
from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.library.exchange import Exchanged


@flat
def library_export(
    source: Path, destination: NameOrPath, /, *, passed_only: bool = False
) -> "Exchanged":
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

    with claimed_file(None if "://" in destination else Path(destination)):
        return export(source, destination, passed_only=passed_only)


@flat
def library_import(
    provider: str,
    out: Path,
    /,
    *,
    filter: str | None = None,
    chemical_system: str | None = None,
    field: Texts = (),
    limit: Count | None = None,
) -> "Exchanged":
    """Fetch structures from a public database into a table for score, --reference and data prepare.

    Args:
        provider: Address of an OPTIMADE provider, such as https://alexandria.icams.rub.de/pbe, or
            materials-project, which asks for a key in the environment variable MP_API_KEY.
        out: The parquet table to write.
        filter: In OPTIMADE's filter language, such as 'elements HAS "Li" AND nelements<=3'.
        chemical_system: Exactly these elements, such as Li-P-S.
        field: Numeric property to take along, such as _alexandria_hull_distance; repeat for
            several.
        limit: Largest number of structures.

    Raises:
        ValueError: If the request makes no sense, the provider fails or finds nothing.
    """
    from mattergen_lite.library.exchange import fetch

    with claimed_file(out):
        return fetch(
            provider,
            out,
            filter_text=filter or "",
            chemical_system=chemical_system,
            fields=field,
            limit=limit,
        )
