"""Result of one first-principles calculation."""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DftResult:
    """Energy and electronic structure of one cell, or the reason why they are missing."""

    energy: float = math.nan  # of the cell at zero smearing width, eV
    num_atoms: int = 0  # in the cell
    band_gap: float = math.nan  # eV; 0 for a metal
    moment: float = math.nan  # total, µB per cell
    cpu_seconds: float = 0.0  # processor time of the program
    wall_seconds: float = 0.0  # elapsed time of the program
    num_kpoints: int = 0  # irreducible k points
    num_bands: int = 0  # bands per k point
    num_electrons: float = 0.0  # valence electrons of the cell
    grid: tuple[int, ...] = ()  # points of the Fourier grid along the axes
    # lattice vectors as rows, Å, of what was relaxed; else empty
    cell: tuple[tuple[float, ...], ...] = ()
    # fractional coordinates of what was relaxed; else empty
    frac_coords: tuple[tuple[float, ...], ...] = ()
    relaxation_steps: int = 0  # of cell and positions
    iterations: int = 0  # self-consistency steps
    peak_memory: int = 0  # bytes
    engine: str = ""  # name and versions
    error: str | None = None  # reason of a failure; None for a result

    @property
    def energy_per_atom(self) -> float:
        """Energy in eV/atom."""
        return self.energy / self.num_atoms if self.num_atoms else math.nan

    @classmethod
    def read(cls, path: Path) -> "DftResult":
        """Read a result from a JSON file.

        Raises:
            ValueError: If the file is not such a result.
        """
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{path} holds no result of a calculation: {error}") from None

    @classmethod
    def of(cls, data: object) -> "DftResult":
        """Build a result from plain data; keys of newer versions are left out.

        Raises:
            ValueError: If it has no energy and no error.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not data.keys() & {"energy", "error"}:
            raise ValueError("expected a result with an energy or an error")
        kept = {name: value for name, value in data.items() if name in names}
        rows = {name: tuple(map(tuple, kept.get(name, ()))) for name in ("cell", "frac_coords")}
        return cls(**kept | rows | {"grid": tuple(kept.get("grid", ()))})
