"""The crystals of a run as files: symmetrised CIFs, and all of them as frames of extxyz."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.io.write import Cif, file_names, to_cif, write_extxyz, write_text
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.runs.folder import DFT_RELAXED, FRAMES, RELAXED_FRAMES
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, SYMPREC_RELAXED

CIF_TIME_LIMIT = 60.0  # s


def write_structures(
    folder: Path, candidates: Sequence[Candidate], pool: Pool
) -> dict[str, list[str | int | None]]:
    """Write CIFs and extxyz of raw and relaxed crystals; returns columns that name the CIFs.

    A crystal that could not be judged is there as well, or whoever counts the files would find a
    set without its worst; only what could not be read at all is in none.
    """
    raw = [one.structure for one in candidates]
    relaxed = [one.relaxed_structure for one in candidates]
    names = file_names([one.raw.name for one in candidates])
    cifs = _write_cifs(raw, names, folder / "cifs", SYMPREC_GENERATED, pool)
    relaxed_cifs = _write_cifs(relaxed, names, folder / "relaxed", SYMPREC_RELAXED, pool)
    by_dft = [one.dft_structure for one in candidates]
    _write_cifs(by_dft, names, folder / DFT_RELAXED, SYMPREC_RELAXED, pool)
    _write_frames(raw, candidates, folder / FRAMES)
    if any(relaxed):
        _write_frames(relaxed, candidates, folder / RELAXED_FRAMES)
    columns: dict[str, list[str | int | None]] = {}
    for prefix, place, written in (("", "cifs", cifs), ("relaxed_", "relaxed", relaxed_cifs)):
        columns[f"{prefix}cif"] = [
            cif and f"{place}/{name}.cif" for name, cif in zip(names, written, strict=True)
        ]
        columns[f"{prefix}cif_space_group"] = [cif and cif.space_group for cif in written]
    return columns


def _write_cifs(
    structures: Sequence[Structure | None],
    names: Sequence[str],
    folder: Path,
    symprec: float,
    pool: Pool,
) -> list[Cif | None]:
    """Write a symmetrised CIF of every crystal; returns them, None where there is none."""
    there = [index for index, structure in enumerate(structures) if structure is not None]
    cifs: list[Cif | None] = [None] * len(structures)
    made = pool.map(
        partial(to_cif, symprec=symprec), [structures[i] for i in there], time_limit=CIF_TIME_LIMIT
    )
    for index, cif in zip(there, made, strict=True):
        # Symmetrising is what takes time or breaks; the cell as it is can always be written.
        cifs[index] = to_cif(structures[index], None) if isinstance(cif, Failure) else cif
        write_text(cifs[index].text, folder / f"{names[index]}.cif")
    return cifs


def _write_frames(
    structures: Sequence[Structure | None], candidates: Sequence[Candidate], path: Path
) -> None:
    """Write all crystals as one extxyz file, best first."""
    there = [
        (structure, {"name": one.raw.name, "rank": one.rank})
        for structure, one in zip(structures, candidates, strict=True)
        if structure is not None
    ]
    write_extxyz([frame for frame, _ in there], path, [info for _, info in there])


def best_structures(candidates: Sequence[Candidate], count: int) -> dict[str, Structure]:
    """Of the best candidates those that are relaxed, by name of their files."""
    best = candidates[:count]
    return {
        name: one.relaxed_structure
        for name, one in zip(file_names([one.raw.name for one in best]), best, strict=True)
        if one.relaxed_structure is not None
    }
