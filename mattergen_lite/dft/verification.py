"""Verifies crystals by first principles: energy above the hull from reactions of known phases.

E_hull = dE + sum w E_f - E_hull(MP), where dE is the energy of the crystal by DFT less that of the
phases, both with MP2020 corrections, w the share of the atoms that each phase has, E_f its
formation energy and E_hull(MP) the height of the hull at the composition.
"""

import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from pymatgen.core import Composition, Structure

from mattergen_lite.data.materials import KnownCompound
from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.cells import PlaneWaveCell, choose_cell
from mattergen_lite.dft.cost import estimate_seconds
from mattergen_lite.dft.engine import Engine, JobLimits
from mattergen_lite.dft.phases import known_phases
from mattergen_lite.dft.plan import ReferenceReaction, VerificationPlan, Work
from mattergen_lite.dft.reactions import balanced_reactions, energy_of_reaction
from mattergen_lite.dft.result import DftResult
from mattergen_lite.dft.settings import Calculation
from mattergen_lite.dft.spin import starting_moments
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.energy.potentials.mp2020 import hubbard_u, mp2020_correction
from mattergen_lite.scoring.known.hull import reference_hull

FAILED = 0.1  # eV/atom above the hull, from which on a second reaction has to confirm it
ELEMENTS_COST = 15.0  # s; elements make errors of pseudopotentials cancel less than compounds do
NUM_REACTIONS = 40  # among which the second one is looked for
RELAXATION_COST = 15.0  # 3 (Si) to 18 (MgO) times the energy of the crystal as it is


@dataclass(frozen=True, kw_only=True)
class ReactionEnergy:
    """Energy above the hull by one reaction."""

    e_above_hull: float  # eV/atom
    material_ids: tuple[str, ...]  # of the phases
    formulas: tuple[str, ...]  # reduced formulas of the phases
    shares: tuple[float, ...]  # of the atoms that each phase has
    energies_per_atom: tuple[float, ...]  # by DFT, eV/atom, without corrections
    corrections_per_atom: tuple[float, ...]  # MP2020, eV/atom
    formation_energies_per_atom: tuple[float, ...]  # of the Materials Project, eV/atom

    @property
    def text(self) -> str:
        """Phases with their share of the atoms, "0.6 Zr3In + 0.4 ZrN"."""
        pairs = zip(self.shares, self.formulas, strict=True)
        return " + ".join(f"{share:.3g} {formula}" for share, formula in pairs)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What first principles say of one crystal, or why they say nothing."""

    formula: str  # reduced formula
    e_above_hull: float = math.nan  # eV/atom, mean of the reactions
    e_above_hull_std: float = math.nan  # standard error, eV/atom
    formation_energy_per_atom: float = math.nan  # eV/atom, with MP2020 corrections
    decomposition: str = ""  # phases of the hull at the composition
    energy_per_atom: float = math.nan  # of the crystal, eV/atom, without corrections
    correction_per_atom: float = math.nan  # MP2020, eV/atom
    band_gap: float = math.nan  # eV
    moment_per_atom: float = math.nan  # µB per atom
    # one, or two where the first put the crystal above 0.1 eV/atom
    reactions: tuple[ReactionEnergy, ...] = ()
    seconds: float = 0.0  # core seconds of the crystal's own calculations
    reference_seconds: float = 0.0  # core seconds of its reference phases' calculations
    estimated_seconds: float = 0.0  # as estimated before, of what was not cached
    method: str = ""  # functional, program and cutoff
    # what it relaxed to; None where its energy was not lower, or it was not relaxed
    dft_structure: Structure | None = None
    # change of the energy, eV/atom; NaN where it was not relaxed
    relaxation_energy: float = math.nan
    error: str | None = None  # reason of a failure


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Engine and kept results."""

    engine: Engine  # program of first principles
    results: ResultFolder  # where results are kept
    limits: JobLimits = field(default_factory=JobLimits)  # of each calculation
    exclude: Collection[str] = ()  # identifiers of phases that are no references
    # relax crystals, cell and positions within the symmetry; phases stay as they are
    relax: bool = False

    @property
    def method(self) -> str:
        """Such as "PBE, GPAW 26.7, 400 eV"."""
        return self.engine.method(self.engine.settings)

    def plan(self, structure: Structure) -> VerificationPlan:
        """Choose cells and reactions of a crystal, and estimate their cost.

        Raises:
            ValueError: If the crystal cannot be treated, or no known phases balance it.
        """
        composition = structure.composition
        check_dft_elements(composition, self.engine)
        candidate = self.work(structure)
        reactions = self._reactions(composition)
        works = [candidate, *reactions[0].works]
        return VerificationPlan(
            structure=structure,
            candidate=candidate,
            reactions=reactions,
            estimated_seconds=math.fsum(self.seconds_left(work) for work in works)
            + RELAXATION_COST * self.relax * max(candidate.estimated_seconds),
            confirmation_seconds=math.fsum(
                self.seconds_left(work) for second in reactions[1:] for work in second.works
            ),
        )

    def work(self, structure: Structure) -> Work:
        """Calculations of a crystal."""
        cell = choose_cell(structure, self.engine.settings)
        moments = starting_moments(cell.numbers.tolist())
        return Work(
            starts=tuple(self._calculation(cell, start) for start in moments),
            estimated_seconds=tuple(
                estimate_seconds(
                    cell, self.engine.valence_electrons, is_polarised=start is not None
                )
                for start in moments
            ),
        )

    def _calculation(self, cell: PlaneWaveCell, moments: tuple[float, ...] | None) -> Calculation:
        return Calculation(
            numbers=cell.numbers,
            cell=cell.cell,
            frac_coords=cell.frac_coords,
            kpoints=cell.kpoints,
            moments=moments,
            settings=self.engine.settings,
        )

    def seconds_left(self, work: Work) -> float:
        """Estimated core seconds of what is not cached."""
        pairs = zip(work.starts, work.estimated_seconds, strict=True)
        left = [
            seconds
            for start, seconds in pairs
            if self.results.lookup(start.key(self.engine.versions)) is None
        ]
        return sum(left, start=0.0)

    def _reactions(self, composition: Composition) -> tuple[ReferenceReaction, ...]:
        """The cheapest reaction, and the cheapest with other phases."""
        phases = [
            phase
            for phase in known_phases(composition, exclude=self.exclude)
            if not refusal(phase.structure.composition, self.engine)
        ]
        works = [self.work(phase.structure) for phase in phases]
        symbols = [element.symbol for element in composition.elements]
        costs = [
            self.seconds_left(work) + ELEMENTS_COST * (len(phase.structure.composition) == 1)
            for phase, work in zip(phases, works, strict=True)
        ]
        balanced = balanced_reactions(
            np.array([composition.get_atomic_fraction(symbol) for symbol in symbols]),
            np.array([phase.fractions(symbols) for phase in phases]).reshape(-1, len(symbols)),
            costs,
            num=NUM_REACTIONS,
        )
        if not balanced:
            raise ValueError(f"no small known phases balance {composition.reduced_formula}")
        used = {*balanced[0].phases}
        others = sorted(balanced[1:], key=lambda reaction: len(used.intersection(reaction.phases)))
        return tuple(
            ReferenceReaction(
                phases=tuple(phases[index] for index in reaction.phases),
                shares=reaction.shares,
                works=tuple(works[index] for index in reaction.phases),
            )
            for reaction in [balanced[0], *others[:1]]
        )

    # Calculations

    def carry_out(self, plan: VerificationPlan) -> Verification:
        """Calculate a planned crystal and the phases of its reactions; failures are results."""
        formula = plan.structure.composition.reduced_formula
        known = Verification(
            formula=formula, estimated_seconds=plan.estimated_seconds, method=self.method
        )
        try:
            return self._verified(plan, known)
        except ValueError as error:
            return replace(known, error=str(error))

    def _verified(self, plan: VerificationPlan, known: Verification) -> Verification:
        """Raise ValueError where a calculation has failed."""
        before, structure = self.lowest(plan.candidate), plan.structure
        best, relaxed = self._relaxed(plan.candidate) if self.relax else (before, None)
        correction = mp2020_correction(structure) / len(structure)
        energies, spent = self._by_reactions(plan, best.energy_per_atom + correction)
        place = reference_hull().decompose(structure.composition)
        above = float(np.mean([energy.e_above_hull for energy in energies]))
        return replace(
            known,
            e_above_hull=above,
            e_above_hull_std=math.hypot(
                self.engine.error, float(np.std([e.e_above_hull for e in energies]))
            ),
            formation_energy_per_atom=above + place.energy_per_atom,
            decomposition=str(place),
            energy_per_atom=best.energy_per_atom,
            correction_per_atom=correction,
            band_gap=best.band_gap,
            moment_per_atom=best.moment / best.num_atoms,
            reactions=tuple(energies),
            seconds=before.cpu_seconds + (best.cpu_seconds if self.relax else 0.0),
            dft_structure=relaxed,
            relaxation_energy=best.energy_per_atom - before.energy_per_atom
            if self.relax
            else math.nan,
            reference_seconds=spent,
        )

    def lowest(self, work: Work) -> DftResult:
        """Result of the start of lowest energy, with the time of all starts.

        Raises:
            ValueError: If no start has an energy; says why.
        """
        return self._lowest_start(work)[1]

    def _lowest_start(self, work: Work) -> tuple[Calculation, DftResult]:
        results = [self._result(start) for start in work.starts]
        good = [pair for pair in zip(work.starts, results, strict=True) if pair[1].error is None]
        if not good:
            raise ValueError(results[0].error)
        start, best = min(good, key=lambda pair: pair[1].energy)
        return start, replace(best, cpu_seconds=sum(result.cpu_seconds for result in results))

    def _relaxed(self, work: Work) -> tuple[DftResult, Structure | None]:
        """Relax from the start of lowest energy; the crystal stays as it is if that is lower."""
        start, before = self._lowest_start(work)
        relaxed = self._result(replace(start, task="relax"))
        if relaxed.error is not None:
            raise ValueError(f"relaxation: {relaxed.error}")
        cell, frac_coords = np.array(relaxed.cell), np.array(relaxed.frac_coords)
        structure = build_structure(cell, start.numbers, frac_coords)
        after = self.lowest(self.work(structure))
        seconds = relaxed.cpu_seconds + after.cpu_seconds
        if after.energy_per_atom > before.energy_per_atom:
            return replace(before, cpu_seconds=seconds), None
        return replace(after, cpu_seconds=seconds), structure

    def _result(self, calculation: Calculation) -> DftResult:
        return self.results.obtain(
            calculation.key(self.engine.versions),
            lambda path: self.engine.calculate(calculation, path, self.limits),
        )

    def _by_reactions(
        self, plan: VerificationPlan, energy: float
    ) -> tuple[list[ReactionEnergy], float]:
        """Energies above the hull by one reaction, or two, and the core seconds of their phases."""
        first, spent = self._by_reaction(plan.reactions[0], energy, plan.structure)
        energies = [first]
        if first.e_above_hull > FAILED and len(plan.reactions) > 1:
            with suppress(ValueError):  # the first counts alone
                second, more = self._by_reaction(plan.reactions[1], energy, plan.structure)
                energies, spent = [first, second], spent + more
        return energies, spent

    def _by_reaction(
        self, reaction: ReferenceReaction, energy: float, structure: Structure
    ) -> tuple[ReactionEnergy, float]:
        """Energy above the hull by a reaction, and the core seconds of its phases."""
        results = [
            self._of_phase(*pair) for pair in zip(reaction.phases, reaction.works, strict=True)
        ]
        corrections = [
            mp2020_correction(phase.structure) / len(phase.structure) for phase in reaction.phases
        ]
        formation = [phase.formation_energy_per_atom for phase in reaction.phases]
        energies = [result.energy_per_atom for result in results]
        corrected = [a + b for a, b in zip(energies, corrections, strict=True)]
        hull = reference_hull().decompose(structure.composition).energy_per_atom
        change = energy_of_reaction(energy, corrected, reaction.shares)
        above = change + float(np.dot(formation, reaction.shares)) - hull
        return ReactionEnergy(
            e_above_hull=above,
            material_ids=tuple(phase.material_id for phase in reaction.phases),
            formulas=tuple(phase.formula for phase in reaction.phases),
            shares=reaction.shares,
            energies_per_atom=tuple(energies),
            corrections_per_atom=tuple(corrections),
            formation_energies_per_atom=tuple(formation),
        ), sum(result.cpu_seconds for result in results)

    def _of_phase(self, phase: KnownCompound, work: Work) -> DftResult:
        try:
            return self.lowest(work)
        except ValueError as error:
            raise ValueError(f"reference {phase.formula} ({phase.material_id}): {error}") from None


def check_dft_elements(composition: Composition, engine: Engine) -> None:
    """Refuse what an engine cannot treat.

    Raises:
        ValueError: Naming the elements.
    """
    if reason := refusal(composition, engine):
        raise ValueError(reason)


def refusal(composition: Composition, engine: Engine) -> str | None:
    """Why an engine cannot treat a composition; None if it can."""
    symbols = [element.symbol for element in composition.elements]
    missing = sorted(set(symbols) - engine.valence_electrons.keys())
    if missing:
        return f"{engine.label} has no suitable pseudopotential of {', '.join(missing)}"
    with_u = [symbol for symbol, u in hubbard_u(composition).items() if u > 0]
    if with_u:
        return (
            f"the Materials Project adds U to {', '.join(sorted(with_u))} in oxides and fluorides: "
            "not calculated here, see --energies"
        )
    return None
