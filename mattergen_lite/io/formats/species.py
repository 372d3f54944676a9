"""Reads the element out of a species or a site label of a CIF.

A label begins with a whole symbol, and a charge, a number or a sign of punctuation ends it: Fe1,
O2-, Na1A, Fe3+17, O(1), C_a (CIF core dictionary, `_atom_site_label_component_0`). WAT1 is no
tungsten. Where letters leave a doubt (CA1, OW1), the elements that the file declares decide.
"""

import re
from collections.abc import Set

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.io.formats.structures import HYDROGEN_ISOTOPES, number_of

CHARGE = r"(?:\d*\.?\d*[+-])?"
_LABEL = re.compile(rf"(?P<symbol>[A-Za-z]{{1,2}}){CHARGE}(?P<rest>[\d(\[_*'\"#.].*)?")
_MIXTURE = re.compile(r"[^A-Za-z\d_*'\"#.(\[]\W*[A-Z]|[A-Z][a-z]?\d*\.\d+[A-Z]")
_WATER = re.compile(r"H[23]O")


def element_of(text: str, where: str, declared: Set[str]) -> int:
    """Atomic number of a type symbol or a site label.

    Elements that the file declares, if it does, decide where letters leave a doubt.

    Raises:
        ValueError: If it is no element of Z = 1..100, or might be several; names the site.
    """
    match = _LABEL.fullmatch(text)
    symbol = match["symbol"] if match else ""
    if symbol in HYDROGEN_ISOTOPES or (
        _is_known(symbol) and not _names_another(symbol, match["rest"] or "", text)
    ):
        return number_of(symbol, where)
    named = {text[:2].capitalize(), text[:1].upper(), symbol.capitalize()} & declared
    candidates = set() if _MIXTURE.search(text) else set(filter(_is_known, named))
    if symbol.capitalize() in candidates:  # SN1 is tin, though the file has sulphur, too
        candidates = {symbol.capitalize()}
    if len(candidates) != 1:
        raise ValueError(
            f"unknown element {text[:40]!r} of {where}: expected a whole symbol of Z = 1..100 such "
            "as O, O2- or O1A" + (" that the file's formula has" if declared else "")
        )
    return number_of(candidates.pop(), where)


def _names_another(symbol: str, rest: str, text: str) -> bool:
    """Whether what follows a symbol names a second element: Nb1Zr1, Fe(Ni), H2O."""
    others = {two for two in re.findall(r"[A-Z][a-z]", rest) if _is_known(two)} - {symbol}
    return bool(others or _MIXTURE.search(text) or _WATER.match(text))


def _is_known(symbol: str) -> bool:
    return symbol in symbols()[1:]
