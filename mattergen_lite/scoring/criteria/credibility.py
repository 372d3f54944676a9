"""Flags crystals that an expert might doubt or not want, with a sentence each.

They are what reviewers said of large generated sets (Cheetham & Seshadri, Chem. Mater. 2024, 36,
3490; Leeman et al., PRX Energy 2024, 3, 011002): ordered versions of disordered phases, dopants
written as compounds, and elements nobody can use. A flag is a reason to look, not a failure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from pymatgen.core import Composition, Structure

from mattergen_lite.chemistry.elements import SCARCE_ABUNDANCE, crustal_abundance, element_groups
from mattergen_lite.chemistry.oxidation import is_metal
from mattergen_lite.scoring.criteria.disorder import shared_sites
from mattergen_lite.scoring.criteria.novelty import Novelty

DOPANT_FRACTION = 1 / 15  # of the atoms; an element below it looks like a dopant
CONCENTRATED_HHI = 5000.0  # twice what the US Department of Justice calls highly concentrated
MAX_MASS_WITHOUT_HHI = 0.1  # of a compound, so that hydrides still get an index


@dataclass(frozen=True, kw_only=True)
class Credibility:
    """Flags of one crystal. Concentrations are smact's; the rest is the element table's.

    Concentrations leave out elements that have none; the property `hhi`, which models are trained
    on, has the same numbers and counts such elements as 10,000.
    """

    flags: tuple[str, ...]
    flag_reasons: tuple[str, ...]  # one sentence for each flag
    smallest_element_fraction: float  # of the atoms
    rarest_abundance: float | None  # ppm of the crust, of the scarcest element; None if unknown
    hhi_production: float | None  # Herfindahl-Hirschman index, mass average; None if unknown
    hhi_reserve: float | None


Flag = tuple[str, str]  # name and reason


@cache
def _concentration(symbol: str, kind: str) -> float | None:
    """Herfindahl-Hirschman index of an element, kind "p" for production or "r" for reserves."""
    import smact

    return getattr(smact.Element(symbol), f"HHI_{kind}")


def mean_concentration(composition: Composition, kind: str) -> float | None:
    """Mass average of the index (Gaultois et al., Chem. Mater. 2013, 25, 2911).

    Elements without one (hydrogen) are left out if they are light enough, else it is unknown.
    """
    weighted = [
        (composition.get_wt_fraction(element), _concentration(element.symbol, kind))
        for element in composition
    ]
    known = [(weight, index) for weight, index in weighted if index is not None]
    mass = sum(weight for weight, _ in known)
    if mass < 1 - MAX_MASS_WITHOUT_HHI:
        return None
    return float(sum(weight * index for weight, index in known) / mass)


def is_all_metal(composition: Composition) -> bool:
    """True if every element is a metal."""
    return all(is_metal(element.symbol) for element in composition)


def is_dopant_like(composition: Composition) -> bool:
    """True if some element is a smaller part of the atoms than compounds usually have."""
    return _smallest_fraction(composition) < DOPANT_FRACTION


def _smallest_fraction(composition: Composition) -> float:
    return float(min(composition.get_atomic_fraction(element) for element in composition))


def members(composition: Composition, group: str) -> list[str]:
    """Elements that belong to a group; the same that `generate --exclude` leaves out."""
    return [element.symbol for element in composition if element.symbol in element_groups()[group]]


def _composition_flags(composition: Composition) -> Iterator[Flag]:
    if is_dopant_like(composition):
        rarest = min(composition, key=composition.get_atomic_fraction)
        fraction = _smallest_fraction(composition)
        yield "dopant_like", f"{rarest.symbol} is only {fraction:.1%} of the atoms."
    if len(composition) > 1 and is_all_metal(composition):
        yield "all_metal", "All elements are metals: an alloy or intermetallic."
    if radioactive := members(composition, "radioactive"):
        yield "radioactive", f"{_listed(radioactive)} without a stable isotope."
    if scarce := members(composition, "scarce"):
        yield "scarce", f"{_listed(scarce)} below {SCARCE_ABUNDANCE} ppm of the Earth's crust."
    concentration = mean_concentration(composition, "p")
    if concentration is not None and concentration > CONCENTRATED_HHI:
        yield "concentrated_supply", f"Production is in few hands: HHI {concentration:.0f}."


def _listed(symbols: Sequence[str]) -> str:
    """The beginning of a sentence: "Tc is" or "Tc and Pm are"."""
    return f"{' and '.join(symbols)} {'is' if len(symbols) == 1 else 'are'}"


def _disorder_flags(structure: Structure, symprec: float) -> Iterator[Flag]:
    """Flag for elements on sites that differ in nothing but the element."""
    shared = shared_sites(structure, symprec=symprec)
    if shared is not None:
        elements = ", ".join("/".join(group) for group in shared.groups)
        reason = (
            f"{elements} could share a site: merged, the crystal has space group "
            f"{shared.space_group} and a primitive cell of {shared.num_atoms_primitive} atoms."
        )
        yield "ordered_approximant", reason


def credibility(structure: Structure, *, symprec: float) -> Credibility:
    """Flags that one ordered crystal earns by itself.

    Raises:
        ValueError: If spglib finds no symmetry at `symprec` (Å).
    """
    composition = structure.composition.reduced_composition
    flags = [*_disorder_flags(structure, symprec), *_composition_flags(composition)]
    abundances = [crustal_abundance(element.symbol) for element in composition]
    return Credibility(
        flags=tuple(name for name, _ in flags),
        flag_reasons=tuple(reason for _, reason in flags),
        smallest_element_fraction=_smallest_fraction(composition),
        rarest_abundance=None if None in abundances else min(abundances),
        hhi_production=mean_concentration(composition, "p"),
        hhi_reserve=mean_concentration(composition, "r"),
    )


def with_novelty(judged: Credibility, novelty: Novelty) -> Credibility:
    """Add the flags that follow from what is known already."""
    flags: list[Flag] = []
    if novelty.disordered_form_of:
        known = novelty.disordered_form_of
        reason = f"With {novelty.mixed_elements} on shared sites it equals known {known}."
        flags.append(("known_disordered_phase", reason))
    if novelty.known_composition:
        known = novelty.known_composition
        reason = f"{known} has this composition; its structure is not here to compare with."
        flags.append(("known_composition", reason))
    if novelty.known_chemical_system is False:
        flags.append(("unknown_chemical_system", "No embedded crystal has exactly these elements."))
    return replace(
        judged,
        flags=(*judged.flags, *(name for name, _ in flags)),
        flag_reasons=(*judged.flag_reasons, *(reason for _, reason in flags)),
    )
