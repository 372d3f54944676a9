"""Structures of the Materials Project, by its own client and with the user's own key."""

import os
from collections.abc import Iterator, Sequence

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.records import StructureRecord

KEY = "MP_API_KEY"  # environment variable: a key on a command line ends up in records
FIELDS = ("energy_above_hull", "formation_energy_per_atom", "band_gap")


def read_materials_project(
    chemical_system: str | None, limit: int | None, fields: Sequence[str] = FIELDS
) -> Iterator[StructureRecord]:
    """Structures of a chemical system such as Li-P-S, or all, with numbers of the summary.

    Raises:
        ValueError: If there is no key, the client is not installed or the server refuses.
    """
    key = os.environ.get(KEY)
    if not key:
        raise ValueError(f"the Materials Project asks for a key: expected it in ${KEY}")
    try:
        from mp_api.client import MPRester
        from mp_api.client.core import MPRestError
    except ImportError:
        raise ValueError(
            "the Materials Project needs `pip install '.[library]'` in the source folder"
        ) from None
    asked = {} if chemical_system is None else {"chemsys": chemical_system}
    if limit is not None:
        asked |= {"num_chunks": 1, "chunk_size": limit}
    try:
        with MPRester(key, use_document_model=False, mute_progress_bars=True) as rester:
            documents = rester.materials.summary.search(
                fields=["material_id", "structure", *fields], **asked
            )
    except MPRestError as error:
        raise ValueError(f"Materials Project: {str(error).splitlines()[0]}") from None
    for document in documents[:limit]:
        yield _record(document, fields)


def _record(document: dict, fields: Sequence[str]) -> StructureRecord:
    """A summary document as a record; what is wrong with it ends in the record's `error`."""
    name, given = str(document["material_id"]), document["structure"]
    try:
        structure = build_structure(
            given.lattice.matrix,
            given.atomic_numbers,
            given.frac_coords,
        )
    except (ValueError, AttributeError) as error:
        return StructureRecord(name, None, f"{type(error).__name__}: {error}")
    values = {field: document.get(field) for field in fields}
    numeric = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    return StructureRecord(name, structure, None, numeric)
