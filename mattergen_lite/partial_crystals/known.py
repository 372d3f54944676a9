"""Samples on the templates of known crystals."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.config import ModelConfig
from mattergen_lite.data.table import EMBEDDED
from mattergen_lite.partial_crystals.library import (
    PlacedTemplate,
    TemplateLibrary,
    template_library,
)
from mattergen_lite.partial_crystals.partial_crystal import (
    PartialCrystal,
    PartialCrystalSampler,
    listed_counts,
)
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import ChemicalSystem
from mattergen_lite.request.stoichiometry import can_be_neutral
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.tensors.shapes import Float, Int

# Templates between which the similarity of elements decides, and of them if there are more, drawn
# once for all samples; where elements go to single orbits each sample compares some of its own.
NUM_COMPARED = 2000
NUM_COMPARED_FREE = 64
# Of the preference for templates whose elements resemble those wanted: mean over atoms of
# 1 - cosine between descriptors. Known crystals of one structure type differ by about 0.1. With all
# of the composition given most samples take the nearest, which is the best guess.
SIMILARITY_SCALE = 0.1
NEAREST_SCALE = 0.02
SHARE_OF_NEAREST = 0.8
_TRIES = 300  # templates looked at before it is said that none has room for what is asked


@dataclass(frozen=True, kw_only=True)
class TemplateSampler(PartialCrystalSampler):
    """Samples on the templates of the crystals of a library."""

    library: TemplateLibrary
    constraints: Constraints
    rows: Int[np.ndarray, "R"]  # of the library
    prescribed: bool
    bias: float = 0.0  # exponent of the yield of a template, where no elements are asked for
    targets: tuple[PropertyTarget, ...] = ()  # known crystals close to them are drawn more often

    @classmethod
    def of(
        cls,
        constraints: Constraints,
        counts: Sequence[int],
        model: ModelConfig,
        table: str = EMBEDDED,
    ) -> "TemplateSampler":
        """Templates of the crystals of a table in the package that fit what is asked.

        Raises:
            ValueError: If there is none; the message says what there is instead.
        """
        library = template_library(model.max_orbits, model.max_atoms, table)
        allowed = library.rows(constraints.space_groups)
        rows = allowed[np.isin(library.num_atoms[allowed], counts)]
        if not len(rows):
            sizes = listed_counts(np.unique(library.num_atoms[allowed]).tolist()) or "no number"
            raise ValueError(
                f"{constraints}: no known crystal near the hull has that with "
                f"{listed_counts(counts)} atoms in its primitive cell; there are some with "
                f"{sizes}; allow other sizes, or say space-group none"
            )
        whole = library.holding(rows, constraints) if constraints.needed else rows
        return cls(
            library=library,
            constraints=constraints,
            rows=np.array(whole) if len(whole) else rows,
            prescribed=bool(len(whole)),
        )

    def draw(self, rng: torch.Generator) -> PartialCrystal:
        """Draw a template: any, or one whose elements resemble the wanted ones.

        Either way those of crystals that are close to the targets are drawn more often.

        Raises:
            ValueError: If none of the templates that were tried has room for what is wanted.
        """
        if not self.constraints.needed:
            row = self._draw_any(rng)
            elements = (0,) * int(self.library.crystals.num_orbits[row])
            return self._partial_crystal(
                PlacedTemplate(row=row, elements=elements, dissimilarity=0.0)
            )
        if self.prescribed:
            candidates, weights = self._compared
        else:
            rows = self._draw_rows(_TRIES, rng)
            candidates = list(islice(self._placed(rows, rng), NUM_COMPARED_FREE))
            weights = self._weights(candidates)
        if not candidates:
            raise ValueError(
                f"{self.constraints}: none of the known crystals that were tried has sites for "
                "the elements that are asked for; allow more numbers of atoms or space groups, or "
                "say space-group none"
            )
        return self._partial_crystal(candidates[int(torch.multinomial(weights, 1, generator=rng))])

    @cached_property
    def _compared(self) -> tuple[list[PlacedTemplate], Float[Tensor, "C"]]:
        """Templates with the wanted elements on whole classes, the same for all samples."""
        rng = torch.Generator().manual_seed(0)
        candidates = list(self._placed(self._draw_rows(NUM_COMPARED, rng), rng))
        if not self.constraints.is_complete:
            candidates = [
                candidate for candidate in candidates if self._is_neutral(candidate)
            ] or candidates
        return candidates, self._weights(candidates)

    def _is_neutral(self, candidate: PlacedTemplate) -> bool:
        """Whether charges can balance; elements that are still open are free to balance them.

        In a chemical system nothing else may occur: open elements repeat those of the system.
        """
        system = self.constraints.find(ChemicalSystem)
        sizes = self.library.crystals.orbits(candidate.row).multiplicities.tolist()
        counts: Counter[str] = Counter()
        for number, size in zip(candidate.elements, sizes, strict=True):
            counts[symbols()[number]] += size
        is_open = counts.pop("X", 0) > 0
        return system is None if is_open else can_be_neutral(counts)

    def _placed(self, rows: Int[np.ndarray, "R"], rng: torch.Generator) -> Iterator[PlacedTemplate]:
        """Templates that the wanted elements fit on."""
        for row in rows:
            candidate = self.library.place(int(row), self.constraints, self.prescribed, rng)
            if candidate is not None:
                yield candidate

    def _weights(self, candidates: Sequence[PlacedTemplate]) -> Float[Tensor, "C"]:
        """Probabilities of templates: softmax(ln closeness - d / scale - ln N)."""
        unlike = torch.tensor(
            [candidate.dissimilarity for candidate in candidates], dtype=torch.float64
        )
        rows = [candidate.row for candidate in candidates]
        close, atoms = (
            torch.from_numpy(each[rows]) for each in (self._closeness, self.library.num_atoms)
        )
        preferred = close.log() - atoms.log()
        like = (preferred - unlike / SIMILARITY_SCALE).softmax(0)
        if not self.constraints.is_complete:
            return like
        nearest = (preferred - unlike / NEAREST_SCALE).softmax(0)
        return SHARE_OF_NEAREST * nearest + (1 - SHARE_OF_NEAREST) * like

    def _draw_any(self, rng: torch.Generator) -> int:
        """One row, with probability in proportion to closeness times (yield of template)^bias."""
        if self.bias == 0 and not self.targets:
            return int(self._draw_rows(1, rng)[0])
        point = torch.rand((), generator=rng, dtype=torch.float64).item()
        place = np.searchsorted(self._cumulated, point * self._cumulated[-1], side="right")
        return int(self.rows[min(place, len(self.rows) - 1)])

    @cached_property
    def _cumulated(self) -> Float[np.ndarray, "R"]:
        """Running sum of the weights of the rows."""
        yields = self.library.yields[self.rows] ** self.bias
        return np.cumsum(yields * self._closeness[self.rows])

    @cached_property
    def _closeness(self) -> Float[np.ndarray, "L"]:
        return self.library.closeness(self.targets)

    def _draw_rows(self, count: int, rng: torch.Generator) -> Int[np.ndarray, "K"]:
        """Draw rows at random, each at most once if there are fewer than `count`.

        With targets, those of close crystals are preferred, and each is drawn at most once.
        """
        if self.targets and len(self.rows) > count:
            weights = torch.from_numpy(self._closeness[self.rows])
            return self.rows[torch.multinomial(weights, count, generator=rng).numpy()]
        if len(self.rows) <= count:
            return self.rows[torch.randperm(len(self.rows), generator=rng).numpy()]
        return self.rows[torch.randint(len(self.rows), (count,), generator=rng).numpy()]

    def _partial_crystal(self, candidate: PlacedTemplate) -> PartialCrystal:
        return PartialCrystal(
            orbits=self.library.crystals.orbits(candidate.row),
            elements=candidate.elements,
            known=(False,) * len(candidate.elements),
            prescribed=self.prescribed,
            is_crystal=True,
        )
