"""Calculations of DFT that VASP inputs are written for.

They are pymatgen's input sets, by the name of who publishes with them; `RECIPES` says which, and
what number of each belongs on which hull.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of calculation."""

    input_set: str  # of pymatgen
    settings: Mapping[str, str] = field(default_factory=dict)
    pseudopotentials: str  # the set and pymatgen's folder of it
    what: str
    compare: str  # which number, with which hull
    after: str = ""  # recipe whose relaxed crystal it takes; empty for none

    @property
    def order(self) -> str:
        """What to do before the calculation, as a sentence; empty for nothing."""
        before = self.after
        return f" After {before}: replace POSCAR by ../{before}/CONTCAR." if before else ""


_MP_HULL = (
    "The last energy without entropy (E0 of OSZICAR; final_energy of pymatgen's Vasprun). It "
    "belongs on the Materials Project's GGA/GGA+U hull, which is this program's, after MP2020 "
    "corrections: `mattergen-lite score ... --energies table.csv` does both, with columns name, "
    "energy, num_atoms, functional and hubbards. By hand: MaterialsProject2020Compatibility on "
    "entries of the crystal and of its competitors from the same scheme."
)
_R2SCAN_HULL = (
    "r2SCAN, without corrections: on the Materials Project's r2SCAN hull (thermo_type R2SCAN) or "
    "against the competing phases calculated the same way. Never on the GGA/GGA+U hull of this "
    "program."
)
RECIPES = {
    "mp-relax": Recipe(
        input_set="MPRelaxSet",
        pseudopotentials="PBE (pymatgen's folder POT_GGA_PAW_PBE, the first release)",
        what="Materials Project relaxation, PBE or PBE+U. Yb is Yb_2, as in the Materials Project, "
        "and wrong for most compounds of Yb(III).",
        compare=_MP_HULL,
    ),
    "mp-static": Recipe(
        input_set="MPStaticSet",
        pseudopotentials="PBE (POT_GGA_PAW_PBE)",
        what="Materials Project single point, PBE or PBE+U.",
        compare=_MP_HULL,
        after="mp-relax",
    ),
    "matpes-pbe": Recipe(
        input_set="MatPESStaticSet",
        settings={"xc_functional": "PBE"},
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="MatPES single point, PBE without U (Kaplan et al., arXiv:2503.04070), for forces and "
        "stress. No KPOINTS: INCAR has KSPACING.",
        compare="Forces and stress, to compare with potentials. Its energy has other "
        "pseudopotentials and no U: against competing phases calculated the same way only, never "
        "on this program's hull.",
        after="mp-relax",
    ),
    "matpes-r2scan": Recipe(
        input_set="MatPESStaticSet",
        settings={"xc_functional": "R2SCAN"},
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="MatPES single point, r2SCAN, for forces and stress. No KPOINTS: INCAR has KSPACING.",
        compare="Forces and stress. Its energy: against competing phases calculated the same way "
        "only.",
    ),
    "mp24-relax": Recipe(
        input_set="MP24RelaxSet",
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="Materials Project relaxation since 2024, r2SCAN. No KPOINTS: INCAR has KSPACING.",
        compare=_R2SCAN_HULL,
    ),
    "mp24-static": Recipe(
        input_set="MP24StaticSet",
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="Materials Project single point since 2024, r2SCAN.",
        compare=_R2SCAN_HULL,
        after="mp24-relax",
    ),
}
DEFAULT_RECIPES = ("mp-relax", "matpes-pbe")


def parse_recipes(text: str) -> tuple[str, ...]:
    """Names of recipes from text such as "mp-relax,matpes-r2scan".

    Raises:
        ValueError: For an unknown one.
    """
    return names_among(RECIPES, "recipe", text)


def names_among(known: Collection[str], kind: str, text: str) -> tuple[str, ...]:
    """Names out of text such as "mp-relax,matpes-r2scan", each once.

    Raises:
        ValueError: For an unknown one.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: expected some of {', '.join(known)}")
    return names
