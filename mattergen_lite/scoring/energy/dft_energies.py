"""Reads energies of a user's own DFT calculations, which decide where they exist.

A csv table has a column `name` (of a crystal in the run) and one of

- `formation_energy_per_atom`: eV/atom with MP2020 corrections, with the elements at zero;
- `energy_per_atom`, or `energy` with `num_atoms`: total energy in eV as VASP gives it, with
  `functional` "PBE" or "PBE+U" and, for the latter, `hubbards` such as "Fe:5.3;Co:3.32".

Total energies need the Materials Project's settings; MP2020 corrections put them on the hull.
Energies of elements are those of 7net-l3i5, unless the table has rows whose `formula` is one.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pymatgen.core import Composition, Element, Structure

from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.scoring.energy.calibration import ErrorDistribution
from mattergen_lite.scoring.energy.potentials.acceptance_test import acceptance_of
from mattergen_lite.scoring.energy.potentials.mp2020 import hubbard_u, mp2020_correction
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.known.hull import reference_hull

MAX_FILE = 2**26  # bytes
METHOD = "DFT"
# eV/atom: of equal calculations, and where a potential stands in for energies of elements.
SCATTER, SCATTER_OF_ELEMENTS = 0.005, 0.02
U_TOLERANCE = 0.05  # eV
_ENERGIES = {"formation_energy_per_atom", "energy_per_atom", "energy"}
_FUNCTIONALS = ("PBE", "PBE+U")


@dataclass(frozen=True, kw_only=True)
class DftEnergy:
    """One row of the table."""

    name: str
    formula: str = ""
    formation_energy_per_atom: float = math.nan
    energy_per_atom: float = math.nan
    functional: str = ""
    hubbards: Mapping[str, float] | None = None  # eV


@dataclass(frozen=True, kw_only=True)
class DftEnergies:
    """Energies by name of a crystal, and of the elements where the table has them."""

    crystals: Mapping[str, DftEnergy]
    elements: Mapping[str, float]  # eV/atom

    def stability(
        self, name: str, structure: Structure, by_potentials: Stability | None
    ) -> Stability | None:
        """The verdict on a crystal by its own energy; that of potentials where it has none."""
        if name not in self.crystals:
            return by_potentials
        before = by_potentials or Stability()
        try:
            formation, scatter = self._formation_energy(self.crystals[name], structure)
            return decided_by(before, formation, scatter, structure.composition)
        except ValueError as error:
            return replace(before, stability_error=f"{METHOD} energy: {error}")

    def _formation_energy(self, row: DftEnergy, structure: Structure) -> tuple[float, float]:
        """Formation energy with MP2020 corrections and its scatter, eV/atom."""
        composition = structure.composition
        own_formula = Composition(row.formula).reduced_formula if row.formula else ""
        if own_formula not in ("", composition.reduced_formula):
            raise ValueError(
                f"it is of {own_formula}, the crystal is {composition.reduced_formula}"
            )
        if math.isfinite(row.formation_energy_per_atom):
            return row.formation_energy_per_atom, SCATTER
        _check_settings(row, composition)
        shares = composition.fractional_composition.get_el_amt_dict()
        references = {**acceptance_of("7net-l3i5").references, **self.elements}
        missing = sorted(shares.keys() - references.keys())
        if missing:
            raise ValueError(f"no energy of {', '.join(missing)}: expected rows of the elements")
        elements = sum(share * references[symbol] for symbol, share in shares.items())
        corrected = row.energy_per_atom + mp2020_correction(structure) / len(structure)
        is_own = shares.keys() <= self.elements.keys()
        return corrected - elements, SCATTER if is_own else SCATTER_OF_ELEMENTS


def _check_settings(row: DftEnergy, composition: Composition) -> None:
    """Refuse what corrections do not fit."""
    if row.functional.upper() not in _FUNCTIONALS:
        raise ValueError(
            f"functional {row.functional!r} is not on this hull: expected PBE or PBE+U, or a "
            "formation_energy_per_atom"
        )
    needed, given = hubbard_u(composition), row.hubbards or {}
    for symbol in sorted({*needed, *given}):
        if abs(needed.get(symbol, 0.0) - given.get(symbol, 0.0)) > U_TOLERANCE:
            raise ValueError(
                f"U of {symbol} is {given.get(symbol, 0.0):g} eV: expected the Materials Project's "
                f"{needed.get(symbol, 0.0):g} in {composition.reduced_formula}"
            )


def decided_by(
    before: Stability,
    formation: float,
    error: float,
    composition: Composition,
    method: str = METHOD,
) -> Stability:
    """Return the verdict of a formation energy by DFT in eV/atom; that of potentials comes second.

    Raises:
        ValueError: If the hull lacks an element.
    """
    place = reference_hull().decompose(composition)
    above = formation - place.energy_per_atom
    unit = ErrorDistribution(location=0.0, scale=1.0)
    errors = replace(unit, scale=error / unit.std)
    return replace(
        before,
        e_above_hull=above,
        e_above_hull_std=errors.std,
        probability_stable=errors.probability_below(0.0, above),
        probability_metastable=errors.probability_below(METASTABLE, above),
        e_above_hull_raw=above,
        formation_energy_per_atom=formation,
        decomposition=str(place),
        potential=method,
        calibration=METHOD,
        second_opinion=before.potential,
        second_e_above_hull_raw=before.e_above_hull_raw,
        opinions_disagree=False,
        stability_error=None,
    )


def read_energies(path: Path) -> DftEnergies:
    """The energies of a csv table.

    Raises:
        ValueError: If a column or a number is missing or wrong; names the row.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE} bytes: expected a table of energies")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = {*(reader.fieldnames or ())}
        if "name" not in columns or not columns & _ENERGIES:
            raise ValueError(
                f"{path} has columns {', '.join(sorted(columns)) or 'none'}: expected name and "
                "formation_energy_per_atom, energy_per_atom or energy"
            )
        rows = [_row(f"{path}, row {number}", row) for number, row in enumerate(reader, start=1)]
    crystals: dict[str, DftEnergy] = {}
    elements: dict[str, float] = {}
    for row in rows:
        composition = Composition(row.formula) if row.formula else Composition()
        if len(composition) == 1:
            elements[composition.elements[0].symbol] = row.energy_per_atom
        elif row.name in crystals:
            raise ValueError(f"{path} has {row.name!r} twice: expected one energy a crystal")
        else:
            crystals[row.name] = row
    return DftEnergies(
        crystals=crystals,
        elements={s: energy for s, energy in elements.items() if math.isfinite(energy)},
    )


def _row(where: str, row: Mapping[str, str | None]) -> DftEnergy:
    energy, count = _number(where, row, "energy"), _number(where, row, "num_atoms")
    per_atom = _number(where, row, "energy_per_atom")
    if math.isnan(per_atom) and math.isfinite(energy):
        if not count >= 1:
            raise ValueError(f"{where}: num_atoms is {count:g}: expected the atoms of the cell")
        per_atom = energy / count
    formation = _number(where, row, "formation_energy_per_atom")
    if math.isnan(formation) and math.isnan(per_atom):
        raise ValueError(f"{where} has no energy: expected one")
    return DftEnergy(
        name=(row.get("name") or "").strip(),
        formula=_formula(where, (row.get("formula") or "").strip()),
        formation_energy_per_atom=formation,
        energy_per_atom=per_atom,
        functional=(row.get("functional") or "").strip(),
        hubbards=_hubbards(where, row.get("hubbards") or ""),
    )


def _formula(where: str, text: str) -> str:
    """The formula; empty where there is none."""
    try:
        is_one = not text or Composition(text).valid
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError(f"{where}: formula is {text!r}: expected such as Li3PS4")
    return text


def _number(where: str, row: Mapping[str, str | None], column: str) -> float:
    """A number, NaN where the cell is empty."""
    text = (row.get(column) or "").strip()
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column} is {text!r}: expected a finite number")
    return number


def _hubbards(where: str, text: str) -> dict[str, float]:
    """U in eV by element from "Fe:5.3;Co:3.32"."""
    hubbards = {}
    for part in (line.strip() for line in text.split(";")):
        symbol, _, number = part.partition(":")
        if part:
            hubbards[symbol.strip()] = _number(where, {"hubbards": number}, "hubbards")
            if not Element.is_valid_symbol(symbol.strip()) or math.isnan(hubbards[symbol.strip()]):
                raise ValueError(f"{where}: hubbards is {text!r}: expected such as Fe:5.3;Co:3.32")
    return hubbards
