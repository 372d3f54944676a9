"""Count how many samples on each template were worth having, for `template_bias`.

    python scripts/fit_template_yields.py RUN... --out mattergen_lite/assets/template_yields.csv
    python scripts/fit_template_yields.py RUN... --of new-frameworks \
        --out mattergen_lite/assets/new_template_yields.csv

Runs are those of `generate --keep` or the `generated` folders of `discover`, whose samples are on
templates that were drawn without a bias. A sample counts with the probability of being metastable,
after relaxing or else by the screen, if it is credible, unique and novel, and with none otherwise.
What a bias gives is printed as well: yields of one half of the samples, judged by the other half.
The second command counts samples of `generate --frameworks new --keep` on templates of the list of
new frameworks.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Composition

from mattergen_lite import load
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.partial_crystals.success_rates import TemplateKey, TemplateSuccessRates
from mattergen_lite.scoring.candidate import Candidate, is_credible
from mattergen_lite.scoring.metrics.expectation import chance

BIASES = (0, 1, 2, 3, 4)
SPLITS = 20  # into random halves
MAX_ORBITS, MAX_ATOMS = 20, 52  # of the templates of the list


@dataclass(frozen=True)
class PropertyResult:
    """What came of one sample."""

    template: TemplateKey
    hit: float  # probability


def main() -> None:
    """Command line: runs in, a table out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--of", help="count templates of this table only, such as new-frameworks")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    outcomes = [
        PropertyResult(
            template_of(candidate), (chance(candidate) or 0.0) * is_credible(candidate.final)
        )
        for run in options.runs
        for candidate in load(run)
        if candidate.raw.symmetry is not None
    ]
    if options.of:
        library = template_library(MAX_ORBITS, MAX_ATOMS, options.of)
        pairs = zip(library.space_groups.tolist(), library.class_sizes, strict=True)
        listed = set(pairs)
        outcomes = [outcome for outcome in outcomes if outcome.template in listed]
    with options.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("space_group", "class_sizes", "samples", "hits"))
        for (group, sizes), (count, hits) in sorted(counts(outcomes).items()):
            table.writerow((group, " ".join(map(str, sizes)), count, f"{hits:.3f}"))
    print(f"{len(outcomes)} samples on {len(counts(outcomes))} templates")
    print("bias  hits a sample  templates in use")
    for bias in BIASES:
        rate, used = forecast(outcomes, bias)
        print(f"{bias:4}  {rate:13.1%}  {used:16.0f}")


def template_of(candidate: Candidate) -> TemplateKey:
    """The template that a sample is on, as its raw crystal shows it."""
    symmetry = candidate.raw.symmetry
    composition = Composition(candidate.raw.formula)
    scale = symmetry.num_atoms_primitive / composition.num_atoms
    sizes = sorted(round(count * scale) for count in composition.values())
    return symmetry.space_group, tuple(sizes)


def counts(outcomes: Iterable[PropertyResult]) -> Mapping[TemplateKey, tuple[int, float]]:
    """Samples of each template and the expected number of hits among them."""
    counted: dict[TemplateKey, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for outcome in outcomes:
        samples, hits = counted[outcome.template]
        counted[outcome.template] = samples + 1, hits + outcome.hit
    return counted


def forecast(outcomes: Sequence[PropertyResult], bias: float) -> tuple[float, float]:
    """Expected hits a sample under a bias, and the effective number of templates, 1 / sum p²."""
    rng, results = np.random.default_rng(0), []
    for _ in range(SPLITS):
        is_seen = rng.random(len(outcomes)) < 0.5
        seen, others = ([outcomes[i] for i in np.flatnonzero(part)] for part in (is_seen, ~is_seen))
        yields = TemplateSuccessRates.from_counts(counts(seen))
        weights = np.array([yields.of(*other.template) for other in others]) ** bias
        weights /= weights.sum()
        shares: dict[TemplateKey, float] = defaultdict(float)
        for outcome, weight in zip(others, weights, strict=True):
            shares[outcome.template] += weight
        hits = float(weights @ np.array([other.hit for other in others]))
        results.append((hits, 1 / sum(share**2 for share in shares.values())))
    return tuple(np.mean(results, axis=0))


if __name__ == "__main__":
    main()
