"""How crystals are judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mattergen_lite.options.checks import IN_YAML, Count, Length, Share, check_fields

BuiltInPotential = Literal["chgnet", "7net-l3i5"]


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Relaxation, potentials, known structures and required checks.

    Attributes:
        relax: Relax every crystal with CHGNet and judge its stability; seconds a crystal.
        potential: Decides about the energy above the hull of what relaxed.
        second_opinion: Is compared with it; a disagreement is flagged.
        reference: Known structures to be novel against, beside the embedded Materials Project:
            any source that `score` reads; repeat for several.
        require: Checks to pass, of physical,neutral,unique,novel,metastable,on_target; default all
            that are made. Where a number of candidates is asked for, a crystal that fails a cheap
            one is not relaxed.
    """

    __pydantic_config__ = IN_YAML

    relax: bool = True
    potential: BuiltInPotential = "7net-l3i5"
    second_opinion: BuiltInPotential | None = "chgnet"
    reference: tuple[Path, ...] = ()
    require: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """Which crystals are worth relaxing.

    Attributes:
        keep: Share of what passes the cheap checks to relax, the likeliest to be metastable by the
            energies of the raw crystals first; default all, 0.2 with --num-candidates.
        relax_at_most: Relax no more than so many, likewise.
        control: Share of the others that is relaxed all the same, to measure what the screen loses.
    """

    keep: Share | None = None
    relax_at_most: Count | None = None
    control: Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ShortlistOptions:
    """What is done for the best candidates only.

    Attributes:
        shortlist: How many of the best get the deeper checks and the DFT inputs.
        phonons: Look for imaginary modes by finite displacements; minutes a crystal.
        bulk_modulus: Find the bulk modulus from the equation of state.
        dft_inputs: Write VASP input sets into dft/, without pseudopotentials.
    """

    shortlist: Length = 10
    phonons: bool = False
    bulk_modulus: bool = False
    dft_inputs: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
