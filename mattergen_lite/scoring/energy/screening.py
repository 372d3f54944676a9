"""Screens raw crystals by energy: which are worth a relaxation?

CHGNet's energy of a crystal as it came costs a thirtieth of a relaxation. Against the hull it gives
E in eV/atom, and with it, for N atoms in the primitive cell and atomic fractions xᵢ,

    P(metastable after relaxing) = 1 / (1 + exp(-(a + b·asinh(E / E₀) + c·ln N + Σ wᵢ·xᵢ))).

`benchmarks/screening.py` fits the coefficients in `assets/screening.json` to probabilities that the
judge gave to relaxed crystals, and tests them on other chemical systems.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Literal

from pydantic import TypeAdapter
from pymatgen.core import Composition, Structure

from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Failure
from mattergen_lite.scoring.criteria.symmetrization import symmetrized
from mattergen_lite.scoring.energy.calibration import calibration
from mattergen_lite.scoring.energy.potentials.base import check_elements
from mattergen_lite.scoring.energy.potentials.chgnet import ChgnetPotential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import evaluate
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.known.hull import reference_hull

POTENTIAL = ChgnetPotential.name
BATCH_SIZE = 8  # crystals a forward pass; more gain nothing on a CPU
TIME_LIMIT = 120.0  # s per batch
DOUBTFUL_WEIGHT = 0.5  # of the probability of a crystal that would not be credible if stable

Decision = Literal["keep", "control", "reject"]


@dataclass(frozen=True, kw_only=True)
class RawEnergy:
    """A single point of one crystal as it came."""

    e_above_hull: float = math.nan  # eV/atom
    num_atoms: int = 0  # of the primitive cell
    error: str | None = None  # why there is none


@dataclass(frozen=True, kw_only=True)
class Screening:
    """Decision of the screen about one crystal, and the energy that it rests on."""

    screening_e_above_hull: float = math.nan  # eV/atom, of the raw crystal
    screening_probability: float = math.nan  # of being metastable after relaxing
    screening_decision: Decision = "reject"
    screening_error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScreeningModel:
    """Logistic regression of the probability of being metastable after relaxing."""

    intercept: float
    energy: float  # of asinh(E / scale); negative
    log_atoms: float  # of ln N
    scale: float  # E₀, eV/atom
    elements: Mapping[str, float] = field(default_factory=dict)  # of atomic fractions; others 0

    def probability(self, e_above_hull: float, num_atoms: int, composition: Composition) -> float:
        """Probability in 0..1; 0 for an energy that is not a number."""
        if not math.isfinite(e_above_hull):
            return 0.0
        logit = (
            self.intercept
            + self.energy * math.asinh(e_above_hull / self.scale)
            + self.log_atoms * math.log(num_atoms)
            + sum(
                self.elements.get(element.symbol, 0.0) * composition.get_atomic_fraction(element)
                for element in composition
            )
        )
        return 1 / (1 + math.exp(min(-logit, 700.0)))


@cache
def screening_model() -> ScreeningModel:
    """The shipped model."""
    text = (files("mattergen_lite") / "assets" / "screening.json").read_text()
    return ScreeningModel(**json.loads(text)["model"])


def raw_energies(structures: Sequence[Structure]) -> tuple[RawEnergy, ...]:
    """Energies above the hull of ordered crystals as they came, on exact symmetric positions."""
    potential = load_potential(POTENTIAL)
    exact = [symmetrized(structure).structure for structure in structures]
    problems = [_unsupported(potential, structure) for structure in exact]
    atoms = [
        structure.to_ase_atoms(msonable=False)
        for structure, problem in zip(exact, problems, strict=True)
        if problem is None
    ]
    energies = iter(evaluate(potential.energies, atoms))
    return tuple(
        _against_hull(structure, problem or next(energies))
        for structure, problem in zip(exact, problems, strict=True)
    )


def _unsupported(potential: ChgnetPotential, structure: Structure) -> ValueError | None:
    """Why the potential does not know an element; None if it knows all."""
    try:
        return check_elements(potential, structure.symbol_set)
    except ValueError as error:
        return error


def _against_hull(structure: Structure, energy: float | Exception) -> RawEnergy:
    """Turn the energy of a cell in eV into the energy above the hull in eV/atom."""
    composition, num_atoms = structure.composition, len(structure)
    if isinstance(energy, Exception):
        return RawEnergy(num_atoms=num_atoms, error=f"{POTENTIAL}: {energy}")
    try:
        hull = reference_hull().decompose(composition).energy_per_atom
    except ValueError:
        return RawEnergy(
            num_atoms=num_atoms, error="an element has no energy on the reference hull"
        )
    formation = calibration(POTENTIAL).formation_energy(composition, energy / num_atoms)
    return RawEnergy(e_above_hull=formation - hull, num_atoms=num_atoms)


def _identity(batch: tuple[Structure, ...]) -> str:
    return " ".join(structure_identity(structure) for structure in batch)


def ask_raw_energies(structures: Sequence[Structure], result_cache: ResultCache) -> list[RawEnergy]:
    """Energies of crystals in batches, found again in the result cache when asked a second time."""
    question = CachedTask(
        raw_energies, _identity, TypeAdapter(tuple[RawEnergy, ...]), "screen", TIME_LIMIT
    )
    starts = range(0, len(structures), BATCH_SIZE)
    batches = [tuple(structures[start : start + BATCH_SIZE]) for start in starts]
    energies: list[RawEnergy] = []
    for batch, answer in zip(batches, result_cache.ask(question, batches), strict=True):
        failed = isinstance(answer, Failure)
        energies += [RawEnergy(error=answer.reason)] * len(batch) if failed else answer
    return energies


def screen(
    structures: Sequence[Structure],
    ends: Collection[int],
    weights: Sequence[float],
    options: JudgeOptions,
    result_cache: ResultCache,
    *,
    num_passing: Sequence[int],
) -> list[Screening]:
    """Decide for every crystal that passed the cheaper checks whether it is relaxed, and why.

    Rounds, which end at `ends`, are decided one by one, so that a later one changes nothing about
    an earlier one. Of each the cut keeps a share of `num_passing`, those first whose probability of
    being metastable times their weight is largest.
    """
    screened: list[Screening] = []
    share = 1.0 if options.keep is None else options.keep
    for (start, end), size in zip(pairwise([0, *ends]), num_passing, strict=True):
        energies = ask_raw_energies(structures[start:end], result_cache)
        kept = sum(screening.screening_decision == "keep" for screening in screened)
        number = math.ceil(share * size)
        if options.relax_at_most is not None:
            number = min(number, options.relax_at_most - kept)
        part = slice(start, end)
        screened += _decide(energies, structures[part], weights[part], number, options.control)
    return screened


def _decide(
    energies: Sequence[RawEnergy],
    structures: Sequence[Structure],
    weights: Sequence[float],
    number: int,
    control: float,
) -> list[Screening]:
    """Keep a number of the most promising of one round, and some of the others at random."""
    model = screening_model()
    screened = [
        Screening(
            screening_e_above_hull=energy.e_above_hull,
            screening_probability=model.probability(
                energy.e_above_hull, energy.num_atoms, structure.composition
            ),
            screening_error=energy.error,
        )
        for energy, structure in zip(energies, structures, strict=True)
    ]
    possible = [
        index for index, screening in enumerate(screened) if screening.screening_error is None
    ]
    order = sorted(possible, key=lambda i: -weights[i] * screened[i].screening_probability)
    decisions: dict[int, Decision] = {
        **{i: "control" for i in order[number:] if content_draw(structures[i]) < control},
        **dict.fromkeys(order[:number], "keep"),
    }
    return [
        replace(screening, screening_decision=decisions.get(index, "reject"))
        for index, screening in enumerate(screened)
    ]


def content_draw(structure: Structure) -> float:
    """A number in 0..1 that looks random and depends on nothing but the crystal."""
    digest = hashlib.sha256(structure_identity(structure).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
