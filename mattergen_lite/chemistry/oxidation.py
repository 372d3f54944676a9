"""Lists the oxidation states of the elements, how often the ICSD reports them, and beside what.

Counts are those of smact's ICSD 2024 set. A state occurs if at least `MIN_SHARE` of the reports of
its element have it and, of an element of the p block, if no electron is left single; to these come
the textbook states which the counts miss (`positive_states`, `negative_state`). A state that is
common beside one anion may not occur beside another (Sm+2 is one of iodides, not of oxides): those
counts are of the stable compounds of the embedded table (`scripts/build_anion_states.py`).
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Element

MIN_ICSD_COUNT = 3  # smact's own default
# Y+2 has 0.9% of the reports of Y, Zn+3 0.2%, B+1 0.6%, Cl+3 0.5%; Fe+4 and Ni+4 have 1.2%.
MIN_SHARE = 0.01
MIN_SHARE_BESIDE = 0.005  # of compounds with an anion: Sm+2 in oxides has 0.5%, Tl+3 in TlS 0.9%
MIN_COMPOUNDS = 20  # of an element with an anion, from which on their states are counted
ASSET = files("mattergen_lite") / "assets" / "anion_states.json"
HIGH_LANTHANIDES = frozenset({"Ce", "Pr", "Nd", "Tb", "Dy"})  # that fluorine oxidises to +4
HYDRIDE_METALS = frozenset({"Co", "Ni", "Ru", "Rh", "Pd", "Os", "Ir", "Pt"})  # 0 as in Mg2NiH4

# Numbers of neighbours as Shannon writes them.
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


@cache
def icsd_shares() -> dict[str, dict[int, float]]:
    """Share of each oxidation state among the ICSD's reports of an element, commonest first."""
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().ox_states_df
    table = table[(table.oxidation_state != 0) & (table.results_count >= MIN_ICSD_COUNT)]
    shares: dict[str, dict[int, float]] = {}
    for symbol, rows in table.sort_values("results_count", ascending=False).groupby("element"):
        counts = zip(rows.oxidation_state, rows.results_count, strict=True)
        shares[str(symbol)] = {int(state): n / rows.results_count.sum() for state, n in counts}
    return shares


@cache
def anion_counts() -> dict[str, dict]:
    """Stable known compounds by anion, element and state ("states") and by anion ("clusters")."""
    return json.loads(ASSET.read_text(encoding="utf-8"))


@cache
def shares_beside(symbol: str, anions: frozenset[str]) -> Mapping[int, float] | None:
    """Share of each positive state of an element in stable known compounds with these anions.

    Empty if the element is in no such compound; None if it is in fewer than `MIN_COMPOUNDS`.
    """
    states = anion_counts()["states"]
    counts: Counter[int] = Counter()
    for anion in anions:
        for state, number in states.get(anion, {}).get(symbol, {}).items():
            if state.isdigit():
                counts[int(state)] += number
    total = counts.total()
    if 0 < total < MIN_COMPOUNDS:
        return None
    return {state: number / total for state, number in counts.items()}


@cache
def electronegativity(symbol: str) -> float:
    """Pauling electronegativity as smact or else pymatgen has it; NaN where unknown."""
    import smact
    from pymatgen.core import Element

    value = smact.Element(symbol).pauling_eneg
    element = Element(symbol)
    if value is None and not element.is_noble_gas:
        value = element.X
    return math.nan if value is None else float(value)


@cache
def anion_rank(symbol: str) -> float:
    """Electronegativity by which anions and cations are told apart.

    It is Pauling's, but for Te, whose 2.1 would make it the cation of As2Te3 and of H2Te.
    """
    return 2.3 if symbol == "Te" else electronegativity(symbol)


@cache
def is_metal(symbol: str) -> bool:
    """True if smact or pymatgen call the element a metal: smact has Ge and Sb but forgets Pm."""
    from pymatgen.core import Element
    from smact import metals

    return symbol in metals or Element(symbol).is_metal


@cache
def ion_radius(symbol: str, state: int) -> float | None:
    """Radius of an ion in Å, Shannon's (Acta Cryst. 1976, A32, 751); None for an unlisted ion.

    Of six neighbours, or the nearest number that is listed, and high spin where there are two.
    """
    from pymatgen.core import Element

    listed = (Element(symbol).data.get("Shannon radii") or {}).get(str(state), {})
    # A letter behind a numeral means another shape than usual.
    spins = {_NUMERALS.index(name): spin for name, spin in listed.items() if name in _NUMERALS}
    if not spins:
        return None
    chosen = spins[min(spins, key=lambda number: (abs(number - _NUMERALS.index("VI")), number))]
    return (chosen.get("High Spin") or next(iter(chosen.values())))["ionic_radius"]


@cache
def has_states(symbol: str) -> bool:
    """True if the element has known oxidation states and an electronegativity."""
    return symbol in icsd_shares() and not math.isnan(electronegativity(symbol))


@cache
def positive_states(symbol: str, anions: frozenset[str]) -> Mapping[int, float]:
    """Positive oxidation states that occur beside these anions, with their shares of the ICSD.

    Oxide and fluoride alone stabilise higher states.
    """
    from pymatgen.core import Element

    shares = {q: share for q, share in icsd_shares().get(symbol, {}).items() if q > 0}
    beside = shares_beside(symbol, anions) or shares
    common = {
        q: share
        for q, share in shares.items()
        if share >= MIN_SHARE and beside.get(q, 0.0) >= MIN_SHARE_BESIDE
    }
    element, highest = Element(symbol), max(common, default=0)
    if anions <= {"O", "F"} and _is_oxidisable(element):
        most = 4 if element.block == "f" else element.group  # electrons that it can lose
        common |= {q: share for q, share in shares.items() if highest < q <= most}
    if element.block == "p" and symbol != "N":
        lone_pair = element.group - 12
        if lone_pair in shares and element.group in (13, 14, 15) and element.row > 3:
            common[lone_pair] = shares[lone_pair]  # Ga+1 has 0.5%
        common = {q: share for q, share in common.items() if (element.group - q) % 2 == 0}
    return common


def _is_oxidisable(element: "Element") -> bool:
    """Whether the element has d or f electrons to lose beyond its common states."""
    return element.symbol in HIGH_LANTHANIDES or (element.block == "d" and 5 <= element.group <= 11)


@cache
def negative_state(symbol: str) -> int | None:
    """The negative oxidation state of an atom without bonds to its like; None if it has none.

    It fills the shell (N-3, Cl-1); Au-1 is the only other one with more than 1% of the reports.
    """
    from pymatgen.core import Element

    element = Element(symbol)
    if symbol == "H":
        return -1
    if element.block == "p" and 14 <= element.group <= 17:
        return element.group - 18
    return -1 if symbol == "Au" else None


@cache
def max_state(symbol: str) -> int:
    """Number of valence electrons of a main-group element."""
    from pymatgen.core import Element

    group = Element(symbol).group
    return group - 10 if group > 12 else group
