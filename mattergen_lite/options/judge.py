"""Options of the judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mattergen_lite.options.checks import IN_YAML, Bounds, Count, Length, Share, check_fields

# A name, a path to weights or module:factory; in Python also an ASE calculator or a `Potential`.
PotentialChoice = Any
# What crystals are made for: new materials; the structure of a composition; a host made complete.
Goal = Literal["discover", "predict", "complete"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A test that every candidate passes or fails; `Candidate.all_checks` has its outcome.

    Attributes:
        name: As `require` takes it.
        advice: What to do where nothing passes, in the options of `generate`.
        needs: What a check that is not cheap needs; a cheap one is made before any relaxation. A
            check that needs a request passes or fails only where `require` names it.
        discovery_only: Required by default of new materials only.
    """

    name: str
    advice: str
    needs: Literal["screening", "relaxation", "targets", "symmetry", "request"] | None = None
    discovery_only: bool = False


# In the order of what they cost.
CHECKS = (
    Check(name="readable", advice="column error of the table says what is wrong with each"),
    Check(
        name="physical",
        advice="sample with more --steps, or let templates decide with --space-group any",
    ),
    Check(
        name="neutral",
        discovery_only=True,
        advice="alloys pass; ask for a --formula whose charges balance, or leave it out of "
        "--require",
    ),
    Check(name="unique", advice="ask for more with fewer constraints, or another --seed"),
    Check(
        name="novel",
        discovery_only=True,
        advice="all are known, or their composition is: columns nearest_known and "
        "known_composition name them; where that is a success, use `predict` or `complete`, or "
        "leave novel out of --require",
    ),
    Check(
        name="new_framework",
        needs="request",
        advice="sample with --frameworks new, or leave new_framework out of --require",
    ),
    Check(
        name="on_target",
        needs="targets",
        advice="ask for a wider range, or insist with --guidance 5",
    ),
    Check(
        name="kept_symmetry",
        needs="symmetry",
        advice="all leave the symmetry asked for when they relax: ask for another --space-group, "
        "or leave kept_symmetry out of --require",
    ),
    Check(name="screened", needs="screening", advice="relax more of them with --keep"),
    Check(
        name="metastable",
        needs="relaxation",
        discovery_only=True,
        advice="sample until enough pass: --num-candidates",
    ),
)
CHECK_NAMES = tuple(check.name for check in CHECKS)
ON_REQUEST = tuple(check.name for check in CHECKS if check.needs == "request")
CHEAP_CHECKS = tuple(check.name for check in CHECKS if check.needs is None)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Relaxation, potentials, known structures, required checks and which crystals are relaxed.

    Attributes:
        relax: Relax every crystal and judge its stability; seconds a crystal.
        potential: Decides about the energy above the hull of what relaxed: chgnet, 7net-0,
            7net-l3i5, 7net-mf-0, mace:NAME, orb:NAME, mattersim:NAME, matgl:NAME, uma:NAME, a path
            to weights, or module:factory, which makes an ASE calculator.
        second_opinion: Is compared with it, likewise; a disagreement is flagged.
        relaxer: The potential that relaxes, likewise. The shipped calibrations are of chgnet's
            geometries.
        energies: csv table of your own DFT energies by name of a crystal, which decide where they
            exist: formation_energy_per_atom, or energy_per_atom with functional and hubbards.
        calibration: File that `calibrate` wrote: the errors of potentials. One without any is
            "uncalibrated" in every verdict.
        reference: Known structures to be novel against, beside the embedded Materials Project:
            any source that `score` reads; repeat for several.
        require: Checks to pass, of physical,neutral,unique,novel,metastable,on_target; of relaxed
            crystals, where --space-group is said, kept_symmetry; default all that are made. Only
            where it is named, new_framework: no known crystal has it. What passes them comes first.
            Where a number of candidates is asked for, a crystal that fails a cheap one, or cannot
            be on target, is not relaxed.
        keep: Share of what passes the cheap checks to relax, the likeliest to be metastable by the
            energies of the raw crystals first; default all, 0.3 with --num-candidates.
        relax_at_most: Relax no more than so many, likewise, controls not counted.
        control: Share of the others that is relaxed all the same, to measure what the screen loses.
        time_limit: Seconds that a crystal may take in a step of the judge before it is given up.
    """

    __pydantic_config__ = IN_YAML

    relax: bool = True
    potential: PotentialChoice = "7net-l3i5"
    second_opinion: PotentialChoice | None = "chgnet"
    relaxer: PotentialChoice = "chgnet"
    calibration: Path | None = None
    energies: Path | None = None
    reference: tuple[Path, ...] = ()
    require: str | None = None
    keep: Share | None = None
    relax_at_most: Count | None = None
    control: Share = 0.1
    time_limit: Annotated[float, Bounds(1e-3, 10**6)] = 600.0

    def __post_init__(self) -> None:
        check_fields(self)
        required = self.required or ()
        if self.keep == 0:
            raise ValueError("keep is 0.0: expected a share above 0 and at most 1")
        if not self.relax and self.is_screened:
            raise ValueError("screening decides about relaxation: expected no --no-relax")
        for name in {"metastable", "kept_symmetry"}.intersection(required):
            if not self.relax:
                raise ValueError(f"{name} needs relaxed crystals: expected no --no-relax")

    @property
    def required(self) -> tuple[str, ...] | None:
        """Names of the required checks; None if every check that is made is required.

        Raises:
            ValueError: For an unknown check.
        """
        return None if self.require is None else parse_checks(self.require)

    @property
    def is_screened(self) -> bool:
        """Whether only the likeliest crystals are relaxed."""
        return self.keep is not None or self.relax_at_most is not None

    def checks(
        self,
        *,
        has_targets: bool,
        has_symmetry: bool = False,
        goal: Goal = "discover",
        is_screened: bool | None = None,
    ) -> tuple[str, ...]:
        """Names of the checks that a crystal has to pass.

        Args:
            has_targets: Properties were asked for.
            has_symmetry: A space group or crystal system was asked for.
            goal: What crystals are made for. A known crystal is what `predict` and `complete` hope
                for, and of one composition the lowest energy is the best, however high.
            is_screened: Crystals were screened; None if the options decide.

        Raises:
            ValueError: If `on_target` or `kept_symmetry` is required where nothing was asked for,
                or `novel` or energies of DFT are given where crystals of one composition compete.
        """
        required, is_discovery = self.required, goal == "discover"
        if self.energies is not None and not is_discovery:
            raise ValueError(f"energies: to {goal}, one potential has to decide: expected none")
        if required is None:
            there_is = {
                "screening": self.is_screened if is_screened is None else is_screened,
                "relaxation": self.relax,
                "targets": has_targets,
                "symmetry": has_symmetry and self.relax,
                "request": False,
                None: True,
            }
            return tuple(
                check.name
                for check in CHECKS
                if there_is[check.needs] and (is_discovery or not check.discovery_only)
            )
        if "novel" in required and not is_discovery:
            raise ValueError(f"require novel: to {goal}, a known crystal is a success")
        if "on_target" in required and not has_targets:
            raise ValueError("require on_target: expected a condition that says what the target is")
        if "kept_symmetry" in required and not has_symmetry:
            raise ValueError("require kept_symmetry: expected --space-group with a group or system")
        return required


@dataclass(frozen=True, kw_only=True)
class ShortlistOptions:
    """What is done for the best candidates only.

    Attributes:
        shortlist: How many of the best get the deeper checks and the DFT inputs.
        phonons: Look for imaginary modes by finite displacements; minutes a crystal.
        bulk_modulus: Find the bulk modulus from the equation of state.
        verify: Verify so many of the best by DFT (PBE, with GPAW), which decides about them: some
            minutes a crystal. The verb `verify` has more options.
        dft_inputs: Write inputs of DFT into dft/, without pseudopotentials.
        dft_codes: For which programs, some of vasp,espresso,abinit,cp2k,gpaw.
        dft_sets: VASP's, of mp-relax,mp-static,matpes-pbe,matpes-r2scan,mp24-relax,mp24-static.
        incar: VASP's, such as ENCUT=600, that wins over those of the sets; repeat for several.
    """

    shortlist: Length = 10
    phonons: bool = False
    bulk_modulus: bool = False
    verify: Length = 0
    dft_inputs: bool = False
    dft_codes: str = "vasp"
    dft_sets: str = "mp-relax,matpes-pbe"
    incar: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, judge: JudgeOptions) -> None:
        """Refuse what needs relaxed crystals where none are.

        Raises:
            ValueError: If there is such a thing.
        """
        asked = {
            "phonons": self.phonons,
            "bulk moduli": self.bulk_modulus,
            "dft-inputs": self.dft_inputs,
            "verified candidates": self.verify > 0,
        }
        for name in (name for name, is_asked in asked.items() if is_asked and not judge.relax):
            raise ValueError(f"{name} need relaxed crystals: expected no --no-relax")


def parse_checks(text: str) -> tuple[str, ...]:
    """Names of checks from text such as "neutral,novel".

    Raises:
        ValueError: For an unknown check.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in CHECK_NAMES]:
        expected = ", ".join(CHECK_NAMES)
        raise ValueError(f"unknown check {unknown[0]!r}: expected some of {expected}")
    return tuple(names)
