"""Samples on the templates of known crystals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.config import ModelConfig
from mattergen_lite.drafting.draft import Draft
from mattergen_lite.drafting.library import Candidate, TemplateLibrary, template_library
from mattergen_lite.request.constraints import Constraints
from mattergen_lite.request.space_groups import Symmetry
from mattergen_lite.shapes import Float, Int

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
class TemplateDrafting:
    """Samples on the templates of known crystals."""

    library: TemplateLibrary
    constraints: Constraints
    rows: Int[np.ndarray, "R"]  # of the library
    prescribed: bool
    text: str

    @classmethod
    def of(
        cls,
        constraints: Constraints,
        symmetry: Symmetry,
        counts: Sequence[int],
        model: ModelConfig,
    ) -> "TemplateDrafting":
        """Templates that fit what is asked.

        Raises:
            ValueError: If there is none; the message says what there is instead.
        """
        library = template_library(model.max_orbits, model.max_atoms)
        fits = np.isin(library.num_atoms, counts)
        if symmetry.numbers is not None:
            in_group = np.isin(library.space_groups, sorted(symmetry.numbers))
            _refuse_nothing(in_group & fits, symmetry.text, library.num_atoms[in_group], counts)
            fits &= in_group
        prescribed = True
        rows = np.flatnonzero(fits)
        if constraints.formula:
            exact = [row for row in rows.tolist() if library.holds(row, constraints.formula)]
            prescribed = bool(exact)
            rows = np.array(exact) if exact else rows
        elif constraints.required:
            enough = library.num_classes[rows] >= len(constraints.required)
            prescribed = bool(enough.any())
            rows = rows[enough] if prescribed else rows
        if not len(rows):
            raise ValueError(
                f"no known crystal has a template with {_listed(counts)} atoms: say "
                "space-group none, or allow other sizes"
            )
        return cls(
            library=library,
            constraints=constraints,
            rows=rows,
            prescribed=prescribed,
            text=symmetry.text,
        )

    def draw(self, rng: torch.Generator) -> Draft:
        """Draw any template, or one of those whose elements resemble the wanted ones.

        Raises:
            ValueError: If none of the templates that were tried has room for what is wanted.
        """
        if not (self.constraints.formula or self.constraints.required):
            row = int(self._draw_rows(1, rng)[0])
            elements = (0,) * int(self.library.crystals.num_orbits[row])
            return self._draft(
                Candidate(row=row, elements=elements, prescribed=True, dissimilarity=0.0)
            )
        if self.prescribed:
            found, weights = self._compared
        else:
            rows = self._draw_rows(_TRIES, rng)
            found = list(islice(self._placed(rows, rng), NUM_COMPARED_FREE))
            weights = self._weights(found)
        if not found:
            raise ValueError(
                f"space-group {self.text}: none of the known crystals that were tried has "
                "sites for the elements that are asked for; allow more numbers of atoms or space "
                "groups, or say space-group none"
            )
        return self._draft(found[int(torch.multinomial(weights, 1, generator=rng))])

    @cached_property
    def _compared(self) -> tuple[list[Candidate], Float[Tensor, "C"]]:
        """Templates with the wanted elements on whole classes, the same for all samples."""
        rng = torch.Generator().manual_seed(0)
        found = list(self._placed(self._draw_rows(NUM_COMPARED, rng), rng))
        return found, self._weights(found)

    def _placed(self, rows: Int[np.ndarray, "R"], rng: torch.Generator) -> Iterator[Candidate]:
        """Templates that the wanted elements fit on."""
        for row in rows:
            candidate = self.library.place(int(row), self.constraints, self.prescribed, rng)
            if candidate is not None:
                yield candidate

    def _weights(self, found: Sequence[Candidate]) -> Float[Tensor, "C"]:
        """Probabilities with which templates are drawn: softmax(-d / scale - ln N)."""
        unlike = torch.tensor([one.dissimilarity for one in found], dtype=torch.float64)
        atoms = torch.tensor([int(self.library.num_atoms[one.row]) for one in found])
        like = (-unlike / SIMILARITY_SCALE - atoms.log()).softmax(0)
        if not self.constraints.formula:
            return like
        nearest = (-unlike / NEAREST_SCALE - atoms.log()).softmax(0)
        return SHARE_OF_NEAREST * nearest + (1 - SHARE_OF_NEAREST) * like

    def _draw_rows(self, count: int, rng: torch.Generator) -> Int[np.ndarray, "K"]:
        """Rows at random, each at most once if there are fewer than `count`."""
        if len(self.rows) <= count:
            return self.rows[torch.randperm(len(self.rows), generator=rng).numpy()]
        return self.rows[torch.randint(len(self.rows), (count,), generator=rng).numpy()]

    def _draft(self, candidate: Candidate) -> Draft:
        return Draft(
            orbits=self.library.crystals.orbits(candidate.row),
            elements=candidate.elements,
            known=(False,) * len(candidate.elements),
            prescribed=candidate.prescribed,
        )


def _refuse_nothing(fits: np.ndarray, text: str, sizes: np.ndarray, counts: Sequence[int]) -> None:
    """Say which sizes there are if none of those asked for is."""
    if fits.any():
        return
    there = np.unique(sizes).tolist()
    instead = f"there are some with {_listed(there)}" if there else "there is none of any size"
    raise ValueError(
        f"space-group {text}: no known crystal near the hull has it with {_listed(counts)} atoms "
        f"in its primitive cell; {instead}"
    )


def _listed(counts: Sequence[int]) -> str:
    """Ascending numbers, as a range if there are no gaps."""
    if len(counts) > 1 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]}..{counts[-1]}"
    return ", ".join(map(str, counts))
