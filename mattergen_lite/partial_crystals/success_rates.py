"""Reads the share of good samples on each template, which `template_bias` draws by.

A template is known here by its space group and by how many atoms of the primitive cell each element
has. The package counts samples of four rounds of `discover` on templates of known crystals, and of
`generate --frameworks new` on those of the list of new frameworks
(`scripts/fit_template_yields.py`).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mattergen_lite.options.request import EMBEDDED, NEW_FRAMEWORKS

_FILES = {EMBEDDED: "template_yields.csv", NEW_FRAMEWORKS: "new_template_yields.csv"}
# Samples of the usual yield that every template begins with.
PRIOR_SAMPLES = 5

TemplateKey = tuple[int, tuple[int, ...]]  # space group; atoms of each element, ascending


@dataclass(frozen=True)
class TemplateSuccessRates:
    """Expected share of credible, metastable, unique and novel samples, by template."""

    known: Mapping[TemplateKey, float]
    usual: float  # of a template that nothing is known of: the mean over all samples

    @classmethod
    def from_counts(cls, counts: Mapping[TemplateKey, tuple[int, float]]) -> "TemplateSuccessRates":
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
def template_success_rates(table: str = EMBEDDED) -> TemplateSuccessRates:
    """The yields of the shipped model's samples on templates of a table."""
    text = (files("mattergen_lite") / "assets" / _FILES[table]).read_text()
    rows = csv.DictReader(text.splitlines())
    return TemplateSuccessRates.from_counts(
        {
            (int(row["space_group"]), tuple(map(int, row["class_sizes"].split()))): (
                int(row["samples"]),
                float(row["hits"]),
            )
            for row in rows
        }
    )
