"""Libraries as ASE databases: a SQLite file for one, a PostgreSQL server for a group.

ase db library.db 'formula=LiFePO4,e_above_hull<0.1'
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from mattergen_lite.library.entries import Entry
from mattergen_lite.scoring.score import Cell

if TYPE_CHECKING:
    from ase import Atoms

ROWS_PER_TRANSACTION = 500
# Names that ASE keeps for itself, or for what it works out from the atoms.
_RENAMED = {"formula": "reduced_formula", "name": "sample"}


def write_database(entries: Iterable[Entry], address: str) -> int:
    """Add entries to a database; those that it has already are left alone. Returns how many came.

    The address is a file ending in .db, or postgresql://user:password@host:port/name.

    Raises:
        ValueError: If the database cannot be opened.
    """
    import ase.db

    try:
        database = ase.db.connect(address)
        known = {row.entry_id for row in database.select("entry_id", include_data=False)}
    except ImportError:
        raise ValueError(
            f"{address}: PostgreSQL needs `pip install '.[library]'` in the source folder"
        ) from None
    except Exception as error:  # of the database's driver
        raise ValueError(f"cannot open database {address}: {str(error).strip()}") from None
    new = (entry for entry in entries if entry.id not in known)
    added = 0
    while block := list(islice(new, ROWS_PER_TRANSACTION)):
        with database:
            for entry in block:
                database.write(_atoms(entry), key_value_pairs=_pairs(entry))
        added += len(block)
    return added


def _atoms(entry: Entry) -> "Atoms":
    import ase

    return ase.Atoms(
        numbers=entry.structure.atomic_numbers,
        cell=entry.structure.lattice.matrix,
        scaled_positions=entry.structure.frac_coords,
        pbc=True,
    )


def _pairs(entry: Entry) -> dict[str, Cell]:
    """The judgement as ASE accepts it: none of its own names, numeric text quoted."""
    pairs = {_RENAMED.get(name, name): value for name, value in entry.judgement.items()}
    return {"entry_id": entry.id} | {
        name: f'"{value}"' if isinstance(value, str) and _looks_numeric(value) else value
        for name, value in pairs.items()
    }


def _looks_numeric(text: str) -> bool:
    """Whether ASE would take it for a number or a truth value."""
    try:
        float(text)
    except ValueError:
        return text in ("True", "False")
    return True
