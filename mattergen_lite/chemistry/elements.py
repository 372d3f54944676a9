"""The element table: symbols, atomic masses and the chemical descriptor the type channel diffuses.

The descriptor follows Crystalite (arXiv 2604.02270, section 3): chemically similar elements are
close, so a small error of the denoiser exchanges an element for its neighbour, not for noise.
"""

import csv
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.options.texts import parse_words, split_system

if TYPE_CHECKING:  # torch is slow to load, and requests are read before it is
    from torch import Tensor

MAX_ATOMIC_NUMBER = 100
DESCRIPTOR_DIM = 16
SCARCE_ABUNDANCE = 0.02  # ppm by mass of the Earth's crust; Au, Te and the platinum metals


@cache
def element_rows() -> tuple[dict[str, str], ...]:
    """One row per element, Z = 1..100; group 19 is the f block, s to f count valence electrons."""
    text = (files("mattergen_lite") / "assets" / "elements.csv").read_text()
    return tuple(csv.DictReader(text.splitlines()))


@cache
def symbols() -> tuple[str, ...]:
    """Chemical symbols indexed by atomic number; index 0 is the padding `X`."""
    return ("X", *(row["symbol"] for row in element_rows()))


def periodic_table_position(atomic_number: int) -> tuple[int, int]:
    """Line and column from 0 in the table of 18 columns; the f block is lines 7 and 8."""
    row = element_rows()[atomic_number - 1]
    period, group = int(row["period"]), int(row["group"])
    if group <= 18:
        return period - 1, group - 1
    lanthanum, actinium = 57, 89
    return period + 1, 2 + atomic_number - (lanthanum if period == 6 else actinium)


def parse_symbol(text: str) -> str:
    """A chemical symbol from text in any case.

    Raises:
        ValueError: If it is not one of H..Fm.
    """
    symbol = text.strip().capitalize()
    atomic_number(symbol if symbol in symbols()[1:] else text)
    return symbol


def parse_system(system: str | Sequence[str]) -> tuple[str, ...]:
    """Symbols of a chemical system such as "Li-P-S", in any case.

    Raises:
        ValueError: If a part is not an element.
    """
    return tuple(map(parse_symbol, split_system(system)))


def atomic_number(symbol: str) -> int:
    """Atomic number of a chemical symbol.

    Raises:
        ValueError: If the symbol is not one of H..Fm.
    """
    try:
        return symbols().index(symbol, 1)
    except ValueError:
        raise ValueError(
            f"unknown element {symbol!r}: expected a symbol of Z = 1..100, H to Fm"
        ) from None


def element_mask(allowed: Iterable[str]) -> "Tensor":
    """True at the atomic numbers of the given symbols; bool [101].

    Raises:
        ValueError: If a symbol is not an element.
    """
    import torch

    mask = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.bool)
    mask[[atomic_number(symbol) for symbol in allowed]] = True
    return mask


GROUP_MEANINGS = {
    "toxic": "As, Cd, Hg, Pb (WHO) and Be, Tl (fatal if inhaled, CLP); not every harmful element",
    "radioactive": "no stable isotope; uranium and thorium included, bismuth not",
    "scarce": f"below {SCARCE_ABUNDANCE:g} ppm of the crust, or not found there",
    "rare-earth": "scandium, yttrium and the lanthanides (IUPAC)",
}


@cache
def element_groups() -> dict[str, frozenset[str]]:
    """Symbols of elements that many designs do without, by the name of the group.

    Sources: WHO's ten chemicals of major public health concern and, for Be and Tl, Annex VI of the
    EU's CLP Regulation 1272/2008; pymatgen for isotopes; CRC Handbook, through smact, for the
    crust; IUPAC Red Book 2005, IR-3.5, for rare earths.
    """
    rows = {row["symbol"]: row for row in element_rows()}
    return {
        "toxic": frozenset(name for name, row in rows.items() if row["toxic"] == "1"),
        "radioactive": frozenset(name for name, row in rows.items() if row["radioactive"] == "1"),
        "scarce": frozenset(n for n in rows if (crustal_abundance(n) or 0) < SCARCE_ABUNDANCE),
        "rare-earth": frozenset({"Sc", "Y", *symbols()[57:72]}),
    }


def element_groups_text() -> str:
    """The groups of elements that a request may name, and what each is; one paragraph a group."""
    return "\n".join(
        f"{name:<12} {GROUP_MEANINGS[name]}\n{'':13}{' '.join(sorted(group, key=symbols().index))}"
        for name, group in element_groups().items()
    )


def crustal_abundance(symbol: str) -> float | None:
    """Parts per million of the Earth's crust, by mass; None if the element is not found there."""
    text = element_rows()[atomic_number(symbol) - 1]["crustal_abundance"]
    return float(text) if text else None


def parse_elements(value: str | Sequence[str]) -> frozenset[str]:
    """Symbols out of symbols and groups of elements, in any case: "Pb,Cd,radioactive".

    Raises:
        ValueError: If a part is neither an element nor a group.
    """
    groups = element_groups()
    words = parse_words(value)
    parts = [w.lower() if w.lower() in groups else w.capitalize() for w in words]
    known = {*groups, *symbols()[1:]}
    unknown = [word for word, part in zip(words, parts, strict=True) if part not in known]
    if unknown:
        raise ValueError(
            f"unknown element {unknown[0]!r} in {','.join(words)!r}: expected symbols of H to Fm, "
            f"or {', '.join(groups)}"
        )
    return frozenset().union(*(groups.get(part, {part}) for part in parts))


@cache
def atomic_masses() -> "Tensor":
    """Atomic masses in g/mol indexed by atomic number, float [101]; 0 for padding."""
    return _column("atomic_mass")


def _column(name: str) -> "Tensor":
    import torch

    return torch.tensor([0.0, *(float(row[name]) for row in element_rows())])


@cache
def element_descriptors() -> "Tensor":
    """Unit descriptor vectors indexed by atomic number, float [101, 16]; row 0 (padding) is zero.

    Shipped, not computed: no two linear algebra libraries agree on the basis, and weights know one
    (`scripts/build_element_descriptors.py`).
    """
    import torch

    content = (files("mattergen_lite") / "assets" / "element_descriptors.npy").read_bytes()
    return torch.from_numpy(np.load(BytesIO(content)))


@cache
def herfindahl_indices() -> "Tensor":
    """Herfindahl-Hirschman index of each element's production, 0..10,000; float [101] by number.

    The concentration of supply over countries (Gaultois et al. 2013, Chem. Mater. 25, 2911).
    Elements without a market figure count as fully concentrated, hydrogen like oxygen.
    """
    return _column("hhi_production")
