"""Result of one first-principles calculation."""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DftResult:
    """Energy and electronic structure of one cell, or the reason why they are missing.

    Attributes:
        energy: Of the cell at zero smearing width, eV.
        num_atoms: In the cell.
        band_gap: eV; 0 for a metal.
        moment: Total, µB per cell.
        cpu_seconds: Processor time of the program.
        wall_seconds: Elapsed time of the program.
        num_kpoints: Irreducible k points.
        num_bands: Bands per k point.
        num_electrons: Valence electrons of the cell.
        grid: Points of the Fourier grid along the axes.
        cell: Lattice vectors as rows, Å, of what was relaxed; else empty.
        frac_coords: Fractional coordinates of what was relaxed; else empty.
        relaxation_steps: Of cell and positions.
        iterations: Self-consistency steps.
        peak_memory: Bytes.
        engine: Name and versions.
        error: Reason of a failure; None for a result.
    """

    energy: float = math.nan
    num_atoms: int = 0
    band_gap: float = math.nan
    moment: float = math.nan
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    num_kpoints: int = 0
    num_bands: int = 0
    num_electrons: float = 0.0
    grid: tuple[int, ...] = ()
    cell: tuple[tuple[float, ...], ...] = ()
    frac_coords: tuple[tuple[float, ...], ...] = ()
    relaxation_steps: int = 0
    iterations: int = 0
    peak_memory: int = 0
    engine: str = ""
    error: str | None = None

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
