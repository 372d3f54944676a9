"""Options of the judge."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from mattergen_lite.options.checks import Count, Length, Paths, Share, Texts, options
from mattergen_lite.options.texts import parse_words, written


def _written_potential(given: object) -> object:
    """A potential in a record: text and paths as they are, an object by its name."""
    if isinstance(given, str | Path):
        return given
    return str(getattr(given, "name", type(given).__name__))


# A name, a path to weights or module:factory; in Python also an ASE calculator or a `Potential`.
PotentialChoice = Annotated[Any, PlainSerializer(_written_potential)]
# What crystals are made for: new materials; the structure of a composition; a host made complete.
Goal = Literal["discover", "predict", "complete"]
NUM_RELAXED = 16  # crystals of one composition, unless another number is asked for


@dataclass(frozen=True, kw_only=True)
class Check:
    """A test that every candidate passes or fails; `Candidate.all_checks` has its outcome.

    Attributes:
        name: As `require` takes it.
        advice: What to do where nothing passes, in the options of `generate`.
        needs: What a check that is not cheap needs; a cheap one is made before any relaxation and
            reads nothing but `Candidate.raw`.
        is_optional: It counts only where `require` has it.
        discovery_only: Required by default of new materials only.
    """

    name: str
    advice: str
    needs: Literal["screening", "relaxation", "targets", "symmetry"] | None = None
    is_optional: bool = False
    discovery_only: bool = False


# In the order of what they cost.
CHECKS = (
    Check(name="readable", advice="column error of the table has the reason of each"),
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
        name="new_composition",
        is_optional=True,
        advice="all are polymorphs of known compounds: ask for more elements (--elements), or "
        "leave new_composition out of --require",
    ),
    Check(
        name="new_framework",
        is_optional=True,
        advice="sample with --frameworks new, or leave new_framework out of --require",
    ),
    Check(
        name="credible",
        is_optional=True,
        advice="nature would mix their elements on shared sites (the flags say which), or they "
        "have no symmetry: --exclude one of two similar elements, or leave credible out of "
        "--require",
    ),
    Check(
        name="on_target",
        needs="targets",
        advice="ask for a wider range, or insist with --guidance 5",
    ),
    Check(name="screened", needs="screening", advice="relax more of them with --keep"),
    Check(
        name="kept_symmetry",
        needs="symmetry",
        advice="all leave the symmetry asked for when they relax: ask for another --space-group, "
        "or leave kept_symmetry out of --require",
    ),
    Check(
        name="metastable",
        needs="relaxation",
        discovery_only=True,
        advice="sample until enough pass: --num-candidates",
    ),
)
CHECK_NAMES = tuple(check.name for check in CHECKS)
OPTIONAL_CHECKS = tuple(check.name for check in CHECKS if check.is_optional)
DEFAULT_CHECKS = tuple(check for check in CHECKS if not check.is_optional)
CHEAP_CHECKS = tuple(check.name for check in DEFAULT_CHECKS if check.needs is None)


def parse_checks(value: object) -> tuple[str, ...]:
    """Read names of checks such as "neutral,novel".

    Raises:
        ValueError: For an unknown check.
    """
    names = tuple(name for name in parse_words(value) if name)
    if unknown := [name for name in names if name not in CHECK_NAMES]:
        raise ValueError(f"unknown check {unknown[0]!r}: expected some of {', '.join(CHECK_NAMES)}")
    return names


Checks = written(tuple[str, ...], parse_checks, ",".join)


@options
class JudgeOptions:
    """Relaxation, potentials, known structures, required checks and which crystals are relaxed.

    Attributes:
        relax: Relax every crystal and judge its stability; takes seconds a crystal.
        potential: Gives the energy above the hull of relaxed crystals: chgnet, 7net-0,
            7net-l3i5, 7net-mf-0, mace:NAME, orb:NAME, mattersim:NAME, matgl:NAME, uma:NAME,
            nequix:FILE, a path to weights, or module:factory, which makes an ASE calculator.
        second_opinion: Potential to compare with, named in the same way; a disagreement is flagged.
        relaxer: Potential that relaxes, named in the same way. The shipped calibrations hold for
            geometries of chgnet.
        energies: csv table of your own DFT energies by name of a crystal. They replace those of the
            potential: formation_energy_per_atom, or energy_per_atom with functional and hubbards.
        calibration: File of `calibrate` with the errors of potentials. Without one, verdicts by
            another than the shipped potentials say "uncalibrated".
        reference: Known structures to compare with, beside the embedded Materials Project: any
            source that `score` reads; repeat for several.
        require: Checks to pass, of physical,neutral,unique,novel,metastable,on_target and, with
            --space-group, kept_symmetry; default all that apply. new_framework and
            new_composition (no known crystal has it) and credible (no disordered phase is
            expected instead) count only where they are named. Crystals that pass them come first.
            With --num-candidates, a crystal that fails a cheap check, or cannot be on target, is
            not relaxed.
        keep: Share of the crystals that pass the cheap checks to relax, those first whose raw
            energies make them likeliest to be metastable; default all, 0.3 with --num-candidates.
        relax_at_most: Largest number of crystals to relax, chosen as for --keep, without controls.
        control: Share of the rejected crystals to relax all the same, to measure the loss.
        time_limit: Seconds that a crystal may take in one step of the judge.
    """

    relax: bool = True
    potential: PotentialChoice = "7net-l3i5"
    second_opinion: PotentialChoice | None = "chgnet"
    relaxer: PotentialChoice = "chgnet"
    calibration: Path | None = None
    energies: Path | None = None
    reference: Paths = ()
    require: Checks | None = None
    keep: Share | None = None
    relax_at_most: Count | None = None
    control: Share = 0.1
    time_limit: Annotated[float, Field(ge=1e-3, le=10**6)] = 600.0

    def __post_init__(self) -> None:
        if self.keep == 0:
            raise ValueError("keep is 0.0: expected a share above 0 and at most 1")
        if not self.relax and self.is_screened:
            raise ValueError("screening decides about relaxation: expected no --no-relax")
        for name in {"metastable", "kept_symmetry"}.intersection(self.require or ()):
            if not self.relax:
                raise ValueError(f"{name} needs relaxed crystals: expected no --no-relax")

    @property
    def is_screened(self) -> bool:
        """Whether only the likeliest crystals are relaxed."""
        return self.keep is not None or self.relax_at_most is not None

    def relaxing_few(self) -> "JudgeOptions":
        """The options of a judge that relaxes the likeliest samples, if nothing else is said."""
        if not self.relax or self.is_screened:
            return self
        return replace(self, relax_at_most=NUM_RELAXED, control=0.0)

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
        required, is_discovery = self.require, goal == "discover"
        if self.energies is not None and not is_discovery:
            raise ValueError(f"energies: to {goal}, one potential has to decide: expected none")
        if required is None:
            there_is = {
                "screening": self.is_screened if is_screened is None else is_screened,
                "relaxation": self.relax,
                "targets": has_targets,
                "symmetry": has_symmetry and self.relax,
                None: True,
            }
            return tuple(
                check.name
                for check in DEFAULT_CHECKS
                if there_is[check.needs] and (is_discovery or not check.discovery_only)
            )
        if "novel" in required and not is_discovery:
            raise ValueError(f"require novel: to {goal}, a known crystal is a success")
        if "on_target" in required and not has_targets:
            raise ValueError("require on_target: expected a condition that says what the target is")
        if "kept_symmetry" in required and not has_symmetry:
            raise ValueError("require kept_symmetry: expected --space-group with a group or system")
        return required


@options
class ShortlistOptions:
    """Work on the best candidates only.

    Attributes:
        shortlist: Number of the best candidates that get deeper checks and DFT inputs.
        phonons: Calculate phonons by finite displacements; takes minutes a crystal.
        bulk_modulus: Calculate the bulk modulus from the equation of state.
        verify: Number of the best candidates to calculate by DFT (PBE, with GPAW), which then
            decides; takes minutes a crystal. The command `verify` has more options.
        dft_inputs: Write inputs of DFT into dft/, without pseudopotentials.
        dft_codes: Programs to write inputs for, of vasp,espresso,abinit,cp2k,gpaw.
        dft_sets: Calculations of VASP, of mp-relax,mp-static,matpes-pbe,matpes-r2scan,mp24-relax,
            mp24-static.
        incar: Setting of VASP, such as ENCUT=600, that overrides the sets; repeat for several.
    """

    shortlist: Length = 10
    phonons: bool = False
    bulk_modulus: bool = False
    verify: Length = 0
    dft_inputs: bool = False
    dft_codes: str = "vasp"
    dft_sets: str = "mp-relax,matpes-pbe"
    incar: Texts = ()

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
