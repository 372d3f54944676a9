"""Writes a first-principles calculation of a crystal as columns of the table."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FirstPrinciples:
    """Energy above the hull, gap and moment by DFT, their cost and how they were calculated."""

    dft_e_above_hull: float = math.nan  # eV/atom
    dft_e_above_hull_std: float = math.nan  # eV/atom, against the Materials Project
    dft_formation_energy_per_atom: float = math.nan  # eV/atom, with MP2020 corrections
    dft_energy_per_atom: float = math.nan  # eV/atom, total, without corrections
    dft_band_gap: float = math.nan  # eV; PBE's are too small
    dft_moment_per_atom: float = math.nan  # µB
    dft_relaxation_energy: float = math.nan  # eV/atom, change on relaxing by DFT
    dft_reactions: tuple[str, ...] = ()  # phases that balance the crystal, in shares of the atoms
    dft_core_seconds: float = math.nan  # of the crystal's own calculations
    dft_reference_core_seconds: float = math.nan  # of those of the phases
    dft_method: str = ""  # such as "PBE, GPAW 26.7, 400 eV"
    dft_error: str | None = None
