"""Reads the share of good samples on each template, which `template_bias` draws by.

A template is known here by its space group and by how many atoms of the primitive cell each element
has. The table in the package counts the samples of four rounds of `discover`
(`scripts/fit_template_yields.py`).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# Samples of the usual yield that every template begins with.
PRIOR_SAMPLES = 5

TemplateKey = tuple[int, tuple[int, ...]]  # space group; atoms of each element, ascending


@dataclass(frozen=True)
class TemplateYields:
    """Expected share of credible, metastable, unique and novel samples, by template."""

    known: Mapping[TemplateKey, float]
    usual: float  # of a template that nothing is known of: the mean over all samples

    @classmethod
    def from_counts(cls, counts: Mapping[TemplateKey, tuple[int, float]]) -> "TemplateYields":
        """Shrink each yield towards the mean: (hits + k mean) / (samples + k).

        `counts` has the samples of each template, and the expected number of hits among them.
        """
        usual = sum(hits for _, hits in counts.values()) / sum(n for n, _ in counts.values())
        k = PRIOR_SAMPLES
        return cls({key: (hits + k * usual) / (n + k) for key, (n, hits) in counts.items()}, usual)

    def of(self, space_group: int, class_sizes: tuple[int, ...]) -> float:
        """The yield of one template."""
        return self.known.get((space_group, class_sizes), self.usual)


@cache
def template_yields() -> TemplateYields:
    """The yields of the shipped model's samples."""
    text = (files("mattergen_lite") / "assets" / "template_yields.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return TemplateYields.from_counts(
        {
            (int(row["space_group"]), tuple(map(int, row["class_sizes"].split()))): (
                int(row["samples"]),
                float(row["hits"]),
            )
            for row in rows
        }
    )
