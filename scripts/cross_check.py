"""What matbench-genmetrics says of a few crystals, for tests to compare with.

    python scripts/cross_check.py crystals tests/data/genmetrics.json       # with this package
    python scripts/cross_check.py answers tests/data/genmetrics.json        # with theirs

matbench-genmetrics 0.6.5 needs a pymatgen of 2023 and cannot be installed beside this package, so
the two steps run in two environments. The second one imports nothing of this package and has
matbench-genmetrics==0.6.5 matminer==0.9.2 "numpy<2" "pandas<2.3" "scipy<1.15" "setuptools<81".
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure


def crystals(path: Path) -> None:
    """Known crystals, and samples of which it is plain whether they equal one of them."""
    import torch

    from mattergen_lite.data.crystals import embedded_crystals
    from mattergen_lite.io.tensors import to_structures

    test = embedded_crystals("test")
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    rows = rows[(test.num_atoms[rows] >= 4) & (test.num_atoms[rows] <= 10)][:10]
    known = to_structures(test.crystals(rows))
    samples = [
        *(structure.copy().perturb(0.03) for structure in known[:3]),
        known[3] * (2, 1, 1),
        Structure(Lattice(known[4].lattice.matrix * 1.02), known[4].species, known[4].frac_coords),
        known[5].copy().translate_sites(range(len(known[5])), [0.1, 0.2, 0.3]),
        known[0].copy().perturb(0.02),  # of the same kind as the first sample
        with_other_elements(known[6]),
        known[7].copy().perturb(1.5),
        known[8].copy().apply_strain([0.5, -0.3, 0.0]),
    ]
    path.write_text(
        json.dumps(
            {"known": [s.as_dict() for s in known], "samples": [s.as_dict() for s in samples]}
        )
    )


def with_other_elements(structure: Structure) -> Structure:
    """The same structure with its first element replaced by one it does not have."""
    other = next(name for name in ("Xe", "Kr") if name not in structure.symbol_set)
    return structure.copy().replace_species({structure.species[0].symbol: other})


def answers(path: Path) -> None:
    """Add what matbench-genmetrics finds."""
    from importlib.metadata import version

    from matbench_genmetrics.core.metrics import GenMatcher
    from matbench_genmetrics.core.utils.featurize import featurize_comp_struct

    data = json.loads(path.read_text())
    known, samples = (
        [Structure.from_dict(cell) for cell in data[name]] for name in ("known", "samples")
    )
    alike = {"match_type": "StructureMatcher", "verbose": False}
    compositions, structures = featurize_comp_struct(known + samples)
    covered = GenMatcher(known, samples, verbose=False)
    data["answers"] = {
        "version": version("matbench-genmetrics"),
        "matches": whole(GenMatcher(known, samples, **alike).match_matrix),
        "duplicates": whole(GenMatcher(samples, **alike).match_matrix),
        "covered": whole(covered.match_matrix),
        "composition_fingerprints": np.asarray(compositions, float).round(5).tolist(),
        "structure_fingerprints": np.asarray(structures, float).round(5).tolist(),
    }
    path.write_text(json.dumps(data))


def whole(matrix: np.ndarray) -> list[list[int]]:
    """A table of zeros and ones."""
    return np.asarray(matrix).astype(int).tolist()


def main(arguments: Sequence[str]) -> None:
    """Run one of the two steps."""
    step, path = arguments
    {"crystals": crystals, "answers": answers}[step](Path(path))


if __name__ == "__main__":
    main(sys.argv[1:])
