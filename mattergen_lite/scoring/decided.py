"""Lets energies of first principles decide about candidates."""

from dataclasses import replace

from pymatgen.core import Structure

from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.dft_energies import decided_by
from mattergen_lite.scoring.energy.first_principles import FirstPrinciples
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.property_results import decide_targets


def has_dft_energy(candidate: Candidate) -> bool:
    """Tell whether first principles have given an energy of a candidate."""
    calculated = candidate.first_principles
    return calculated is not None and calculated.dft_error is None


def decide(
    candidate: Candidate, calculated: FirstPrinciples, relaxed: Structure | None = None
) -> Candidate:
    """Return a candidate with what was calculated; an energy decides about its stability.

    A failure changes nothing where an earlier calculation has given an energy.
    """
    if calculated.dft_error is not None:
        kept = candidate.first_principles if has_dft_energy(candidate) else calculated
        return replace(candidate, first_principles=kept)
    stability = decided_by(
        _by_potentials(candidate),
        calculated.dft_formation_energy_per_atom,
        calculated.dft_e_above_hull_std,
        candidate.final_structure.composition,
        calculated.dft_method,
    )
    return decide_targets(
        replace(candidate, first_principles=calculated, stability=stability, dft_structure=relaxed)
    )


def _by_potentials(candidate: Candidate) -> Stability:
    """What potentials say, also where first principles have decided before."""
    stability = candidate.stability or Stability()
    if not has_dft_energy(candidate):
        return stability
    return replace(
        stability,
        potential=stability.second_opinion,
        e_above_hull_raw=stability.second_e_above_hull_raw,
    )
