"""Describes the structures that `predict` and `complete` found, by energy."""

from dataclasses import asdict, dataclass

from mattergen_lite.runs.folder import DISTINCT
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED
from mattergen_lite.scoring.metrics.expectation import Expectation
from mattergen_lite.scoring.metrics.landscape import ENOUGH, Landscape
from mattergen_lite.workflows.cell_sizes import CellSize

NUM_SHOWN = 8
NUMERICAL = 0.002  # eV/atom by which two relaxations into one structure may differ
# Displacement in (V/N)^(1/3) above which a match is called distorted. Equal structures that the
# potential and PBE relax differ by 0.00 to 0.02; `StructureMatcher` allows 0.3.
DISTORTED = 0.05
TIE = 0.005  # eV/atom above the lowest within which potentials cannot rank structures


@dataclass(frozen=True, kw_only=True)
class FoundStructure:
    """One of the different structures that samples relaxed into; energies in eV/atom."""

    place: int  # 1 has the lowest energy
    sample: str
    formula: str
    num_atoms: int  # of the sample's cell
    space_group: str  # of the relaxed crystal, symbol and number, at 0.03 Å
    energy_above_best: float | None  # None where nothing was relaxed
    e_above_hull: float | None  # None where nothing was relaxed, or the hull has a hole
    e_above_hull_std: float | None
    calibration: str  # of the potential's errors, see `Stability`; empty where nothing was relaxed
    num_found: int  # samples that relaxed into it
    known_as: str  # material_id, empty if it is new
    distance: float | None  # Å, from the known one
    truth_distance: float | None  # Å, from the structure that was given; None if it does not match

    known_e_above_hull: float | None = None  # of the known one, in the embedded table
    is_tie: bool = False  # another structure is as low, within what potentials can tell apart
    is_distorted: bool = False  # the known one is farther away than `DISTORTED`

    def text(self) -> str:
        """One line."""
        line = f"{self.place:>4}  {self.sample}  {self.formula:<12} {self.space_group:<14} "
        if self.energy_above_best is not None:
            line += f"+{self.energy_above_best:z.3f}{' tie' if self.is_tie else '    '}  "
        if self.e_above_hull is not None:
            line += f"hull {self.e_above_hull:+z.3f} ± {self.e_above_hull_std:.3f}  "
            line += f"({UNCALIBRATED})  " if self.calibration == UNCALIBRATED else ""
        line += f"{self.num_found}x"
        known = "  new"
        if self.known_as:
            known = f"  {self.known_as}, {_words_on_distance(self.distance, self.is_distorted)}"
        if self.known_e_above_hull is not None:
            known += f", hull {self.known_e_above_hull:+z.3f} in the Materials Project"
        if self.truth_distance is None:
            return line + known
        return f"{line}{known}; the given one, {self.truth_distance:.2f} Å away"


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What became of a structure that is known, or was given."""

    name: str
    is_given: bool
    space_group: str
    energy_above_best: float | None  # eV/atom above the best sample; None if it was not relaxed
    place: int | None  # of the structure that equals it, in its space group; None if none does
    distance: float | None  # Å
    resembles: str = ""  # the nearest structure of another space group, if it was not found
    is_distorted: bool = False  # what equals it is farther away than `DISTORTED`

    @property
    def is_lower(self) -> bool:
        """Whether it lies below every sample by more than relaxations differ."""
        return self.energy_above_best is not None and self.energy_above_best < -NUMERICAL

    @property
    def warning(self) -> str | None:
        """Say that the list lacks the ground state, or has it in a shallower minimum."""
        if self.energy_above_best is None:
            return None
        origin = "was given" if self.is_given else "is known"
        target = f"{self.name} ({self.space_group}) {origin}"
        if self.is_lower:
            where = f"{target} and lies {-self.energy_above_best:.3f} eV/atom below all samples"
            if self.place is not None:
                return f"not relaxed far enough: {where}, the one that equals it included"
            return f"missing: {where}: make more"
        if self.place is None and self.energy_above_best < TIE:
            return (
                f"missing: {target} and as low as the best sample, within what potentials can "
                "tell apart: make more"
            )
        return None

    def text(self) -> str:
        """One line: found or not, how far away and how much higher or lower in energy."""
        what = "given" if self.is_given else "known"
        energy = ""
        if self.energy_above_best is not None:
            energy = f", relaxed {self.energy_above_best:+z.3f} eV/atom from the best sample"
        if self.place is None:
            near = f" ({self.resembles})" if self.resembles else ""
            return f"{what}: {self.name} ({self.space_group}) not found{near}{energy}"
        return (
            f"{what}: {self.name} ({self.space_group}) RECOVERED in place {self.place}, "
            f"{_words_on_distance(self.distance, self.is_distorted)}{energy}"
        )


def _words_on_distance(distance: float, is_distorted: bool) -> str:
    return f"{distance:.2f} Å away{' (distorted)' if is_distorted else ''}"


@dataclass(frozen=True, kw_only=True)
class StructurePrediction:
    """Outcome of `predict` and `complete`."""

    judgements: Judgements
    title: str  # what was done
    cells: tuple[CellSize, ...]
    structures: tuple[FoundStructure, ...]  # lowest energy first, of a tie the known ones
    recovered: tuple[Recovery, ...]  # what was given first, then what is known
    landscape: Landscape
    expected: Expectation | None

    def figures(self) -> dict[str, object]:
        """Everything as plain data."""
        seen = self.landscape
        return {
            "title": self.title,
            "cells": [asdict(cell) for cell in self.cells],
            "structures": [asdict(structure) for structure in self.structures],
            "recovered": [asdict(target) for target in self.recovered],
            "num_relaxed": seen.num_samples,
            "chance_of_new": seen.chance_of_new,
            "num_more": seen.num_more,
            "expected": self.expected and self.expected.figures(),
        }

    def text(self) -> str:
        """Summary for a terminal: what was done, found and recovered, how sure, what next."""
        lines = [self.title, *(f"  {cell.text()}" for cell in self.cells)]
        lines += self._on_structures()
        lines += [target.text() for target in self.recovered]
        lines += [self.expected.sentence] if self.expected else []
        lines += self._how_sure()
        folder = self.judgements.folder
        return "\n".join([*lines, *([] if folder is None else [f"-> {folder / DISTINCT}"])])

    def _on_structures(self) -> list[str]:
        if not self.structures:
            return [f"nothing was relaxed: {self.judgements.funnel.text()}"]
        is_relaxed = self.structures[0].energy_above_best is not None
        how = "by energy (eV/atom above the best)" if is_relaxed else "not relaxed, in no order"
        head = f"{len(self.structures)} different structures, {how}"
        if any(structure.is_tie for structure in self.structures):
            head += (
                f"; tie: less than {TIE} above the lowest, which potentials cannot rank, known "
                "crystals first"
            )
        more = len(self.structures) - NUM_SHOWN
        rest = [f"      and {more} more"] if more > 0 else []
        return [head, *(structure.text() for structure in self.structures[:NUM_SHOWN]), *rest]

    def _how_sure(self) -> list[str]:
        """How complete the list is, and what to do about it."""
        seen = self.landscape
        if not self.structures:
            return [
                "next: more samples (--num-samples), other sizes (--formula-units) or symmetries "
                "(--space-group any), or relax them (no --no-relax)"
            ]
        best = self.structures[0]
        if best.energy_above_best is None:
            return ["next: relax them, which ranks them by energy (no --no-relax)"]
        lines = [
            f"how sure: the best was found by {best.num_found} of {seen.num_samples} samples that "
            f"were followed; one more would be a structure that is not listed with probability "
            f"{seen.words_on_chance}"
        ]
        if seen.num_more:
            share = seen.num_samples / max(1, len(self.judgements))
            lines.append(
                f"next: about {seen.num_more} more to be followed until that is {ENOUGH}, that is "
                f"--num-samples {len(self.judgements) + round(seen.num_more / share)} "
                f"--relax-at-most {seen.num_samples + seen.num_more}"
            )
        return lines + [warning for target in self.recovered if (warning := target.warning)][:1]
