"""The crystals of a run as files: symmetrised CIFs, and all of them as frames of extxyz."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.console import ProgressBar
from mattergen_lite.files.folders import write_text
from mattergen_lite.io.write import Cif, file_names, to_cif, write_extxyz
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.runs.earlier_files import EarlierFiles
from mattergen_lite.runs.folder import DFT_RELAXED, FRAMES, RELAXED_FRAMES
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, SYMPREC_RELAXED

CIF_TIME_LIMIT = 60.0  # s


def write_structures(
    folder: Path, candidates: Sequence[Candidate], pool: Pool, earlier: EarlierFiles
) -> dict[str, list[str | int | None]]:
    """Write CIFs and extxyz of raw and relaxed crystals; returns columns that name the CIFs.

    A crystal that could not be judged is there as well, or whoever counts the files would find a
    set without its worst; only what could not be read at all is in none.
    """
    raw = [candidate.structure for candidate in candidates]
    relaxed = [candidate.relaxed_structure for candidate in candidates]
    names = file_names([candidate.raw.name for candidate in candidates])
    write_cifs = partial(_write_cifs, names=names, pool=pool, earlier=earlier)
    cifs = write_cifs(raw, folder=folder / "cifs", symprec=SYMPREC_GENERATED)
    relaxed_cifs = write_cifs(relaxed, folder=folder / "relaxed", symprec=SYMPREC_RELAXED)
    by_dft = [candidate.dft_structure for candidate in candidates]
    write_cifs(by_dft, folder=folder / DFT_RELAXED, symprec=SYMPREC_RELAXED)
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
    *,
    names: Sequence[str],
    folder: Path,
    symprec: float,
    pool: Pool,
    earlier: EarlierFiles,
) -> list[Cif | None]:
    """Write a symmetrised CIF of every crystal; returns them, None where there is none."""
    cifs = [structure and earlier.cif(structure, symprec) for structure in structures]
    missing = [
        index
        for index, structure in enumerate(structures)
        if structure is not None and cifs[index] is None
    ]
    made = pool.map(
        partial(to_cif, symprec=symprec),
        [structures[i] for i in missing],
        time_limit=CIF_TIME_LIMIT,
    )
    progress = ProgressBar(made, desc="writing CIFs", total=len(missing))
    for index, cif in zip(missing, progress, strict=True):
        # Symmetrising is what takes time or breaks; the cell as it is can always be written.
        cifs[index] = to_cif(structures[index], None) if isinstance(cif, Failure) else cif
    for name, cif in zip(names, cifs, strict=True):
        if cif is not None:
            write_text(cif.text, folder / f"{name}.cif")
    return cifs


def _write_frames(
    structures: Sequence[Structure | None], candidates: Sequence[Candidate], path: Path
) -> None:
    frames = [
        (structure, {"name": candidate.raw.name, "rank": candidate.rank})
        for structure, candidate in zip(structures, candidates, strict=True)
        if structure is not None
    ]
    write_extxyz([frame for frame, _ in frames], path, [info for _, info in frames])


def best_relaxed(candidates: Sequence[Candidate], count: int) -> dict[str, Candidate]:
    """Of the best candidates those that are relaxed, by name of their files."""
    best = candidates[:count]
    return {
        name: candidate
        for name, candidate in zip(
            file_names([candidate.raw.name for candidate in best]), best, strict=True
        )
        if candidate.relaxed_structure is not None
    }
