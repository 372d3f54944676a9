"""Write crystals of new frameworks that first principles have judged, good and bad, as extxyz.

    python scripts/build_verified_frameworks.py RUN [RUN ...]

Runs are folders that `verify` has worked on. Crystals stand as the potential relaxed them, which is
the geometry that was calculated. Random labels are added from `datasets/dft_labels.parquet` for the
crystals of the same runs.
"""

import argparse
import math
from pathlib import Path

from ase import Atoms
from ase.io import write
from dft_labels import read_labels
from pymatgen.io.ase import AseAtomsAdaptor

from mattergen_lite import load
from mattergen_lite.scoring.candidate import Candidate

DATASETS = Path(__file__).parents[1] / "datasets"
COLUMNS = ("dft_e_above_hull", "dft_e_above_hull_std", "dft_band_gap", "dft_method")
LABELS = ("e_above_hull", "e_above_hull_std", "band_gap", "method")


def frame(candidate: Candidate, values: dict[str, float | str], drawn: str) -> Atoms:
    """A crystal with its energy above the hull in eV/atom, its gap in eV and the method."""
    structure = candidate.relaxed_structure
    atoms = AseAtomsAdaptor.get_atoms(structure)
    row = candidate.row()
    known = {"formula": structure.composition.reduced_formula, "drawn": drawn}
    atoms.info = known | {"protostructure": row["relaxed_protostructure"]} | values
    atoms.calc = None
    return atoms


def frames(run: Path) -> list[Atoms]:
    """Crystals of a run with new frameworks and energies by first principles."""
    labels = read_labels(DATASETS / "dft_labels.parquet")
    labels = labels[(labels.pool == run.name) & labels.error.isna()].set_index("name")
    written = []
    for candidate in load(run):
        if candidate.relaxed_structure is None or not candidate.has_new_framework:
            continue
        row, name = candidate.row(), candidate.raw.name
        if row["dft_e_above_hull"] is not None and math.isfinite(row["dft_e_above_hull"]):
            written.append(frame(candidate, {key: row[key] for key in COLUMNS}, "best"))
        elif name in labels.index:
            label = labels.loc[name]
            values = {key: label[column] for key, column in zip(COLUMNS, LABELS, strict=True)}
            written.append(frame(candidate, values, "random"))
    return written


def main() -> None:
    """Command line: runs in, one file out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    every = [atoms for run in parser.parse_args().runs for atoms in frames(run)]
    every.sort(key=lambda atoms: atoms.info["dft_e_above_hull"])
    out = DATASETS / "new_frameworks_by_dft.extxyz"
    write(out, every, format="extxyz")
    held = sum(atoms.info["dft_e_above_hull"] <= 0.1 for atoms in every)
    print(f"{out}: {len(every)} crystals, {held} within 0.1 eV/atom")


if __name__ == "__main__":
    main()
