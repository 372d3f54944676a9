"""Count how many samples on each template were worth having, for `template_bias`.

    python scripts/fit_template_yields.py RUN... --out mattergen_lite/assets/template_yields.csv

Runs are those of `generate --keep` or the `generated` folders of `discover`, whose samples are on
templates that were drawn without a bias. A sample counts with the probability of being metastable,
after relaxing or else by the screen, if it is credible, unique and novel, and with none otherwise.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from pymatgen.core import Composition

from mattergen_lite import load
from mattergen_lite.drafting.yields import Template
from mattergen_lite.scoring.candidate import Candidate, is_credible
from mattergen_lite.scoring.metrics.expectation import chance


def main() -> None:
    """Command line: runs in, a table out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    samples: dict[Template, int] = defaultdict(int)
    hits: dict[Template, float] = defaultdict(float)
    for run in options.runs:
        for one in load(run):
            if one.raw.symmetry is not None:
                samples[template_of(one)] += 1
                hits[template_of(one)] += (chance(one) or 0.0) * is_credible(one.final)
    with options.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("space_group", "class_sizes", "samples", "hits"))
        for (group, sizes), count in sorted(samples.items()):
            found = f"{hits[group, sizes]:.3f}"
            table.writerow((group, " ".join(map(str, sizes)), count, found))
    print(f"{sum(samples.values())} samples on {len(samples)} templates, {sum(hits.values()):.1f}")


def template_of(candidate: Candidate) -> Template:
    """The template that a sample is on, as its raw crystal shows it."""
    symmetry = candidate.raw.symmetry
    composition = Composition(candidate.raw.formula)
    scale = symmetry.num_atoms_primitive / composition.num_atoms
    sizes = sorted(round(count * scale) for count in composition.values())
    return symmetry.space_group, tuple(sizes)


if __name__ == "__main__":
    main()
