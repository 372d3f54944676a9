"""Judged crystals as HTML, for notebooks: a table with a picture of each, without scripts."""

import html
from collections.abc import Sequence
from itertools import product

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Structure

from mattergen_lite.processes import Failure, attempt
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.tensors.shapes import Float

SIZE = 84  # pixels, of a picture's longer side
MAX_ATOMS = 150  # of a picture; more is a blot
TOUCHING = 1e-3  # fraction of a cell within which an atom lies on its face
_COLUMNS = ("rank", "crystal", "name", "formula", "group", "E above hull", "P(metastable)", "flags")
_HEAD = "".join(f"<th style='text-align:left'>{name}</th>" for name in _COLUMNS)
# Seen from a little above and to the right of the first axis.
_TURN, _TILT = np.radians(20.0), np.radians(15.0)
_CAMERA = np.array(
    [[1, 0, 0], [0, np.cos(_TILT), np.sin(_TILT)], [0, -np.sin(_TILT), np.cos(_TILT)]]
) @ np.array(
    [[-np.sin(_TURN), np.cos(_TURN), 0], [0, 0, 1], [np.cos(_TURN), np.sin(_TURN), 0]]
)  # rows: right, up, towards the eye


def html_table(candidates: Sequence[Candidate], caption: str) -> str:
    """A table of candidates with a picture of each."""
    rows = "".join(_row(candidate) for candidate in candidates)
    return (
        f"<table><caption style='text-align:left'>{html.escape(caption)}</caption>"
        f"<thead><tr>{_HEAD}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(candidate: Candidate) -> str:
    """One candidate; the whole verdict is in the tooltip."""
    final, stability = candidate.final, candidate.stability
    flags = [*(final.credibility.flags if final.credibility else ()), *candidate.failed]
    energy = probability = ""
    if stability is not None and stability.stability_error is None:
        energy = stability.stated_energy
        probability = f"{stability.probability_metastable:.0%}"
    texts = (
        candidate.raw.name,
        final.formula,
        final.symmetry.space_group_symbol if final.symmetry else "",
        energy,
        probability,
        ", ".join(flags) if candidate.raw.error is None else candidate.raw.error,
    )
    cells = "".join(f"<td style='text-align:left'>{html.escape(text)}</td>" for text in texts)
    picture = attempt(svg, candidate.final_structure)
    shown = "" if isinstance(picture, Failure) else picture
    title = html.escape(candidate.verdict, quote=True)
    return f'<tr title="{title}"><td>{candidate.rank}</td><td>{shown}</td>{cells}</tr>'


def svg(structure: Structure, size: int = SIZE) -> str:
    """A picture of the cell of an ordered crystal, atoms on its faces repeated, as inline SVG.

    Raises:
        ValueError: If it has more than `MAX_ATOMS` atoms.
    """
    if len(structure) > MAX_ATOMS:
        raise ValueError(f"{len(structure)} atoms: expected at most {MAX_ATOMS} in a picture")
    numbers, places = _with_boundary(structure)
    corners = np.array(list(product((0, 1), repeat=3)))
    lattice = structure.lattice.matrix
    atoms, edges = places @ lattice @ _CAMERA.T, corners @ lattice @ _CAMERA.T
    radii = 0.45 * covalent_radii[numbers]
    low = np.minimum((atoms[:, :2] - radii[:, None]).min(0), edges[:, :2].min(0))
    high = np.maximum((atoms[:, :2] + radii[:, None]).max(0), edges[:, :2].max(0))
    scale = size / max(high - low)
    width, height = scale * (high - low)

    def pixels(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 2"]:
        return scale * np.column_stack([points[:, 0] - low[0], high[1] - points[:, 1]])

    parts = [_lines(corners, pixels(edges))]
    order = np.argsort(atoms[:, 2])  # the farthest first
    for (x, y), radius, number in zip(
        pixels(atoms)[order], scale * radii[order], numbers[order], strict=True
    ):
        parts.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}' fill='{colour(int(number))}'/>"
        )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='-1 -1 {width + 2:.1f} {height + 2:.1f}' stroke='#555' stroke-width='.6'>"
        f"{''.join(parts)}</svg>"
    )


def _with_boundary(structure: Structure) -> tuple[np.ndarray, Float[np.ndarray, "P 3"]]:
    """Atomic numbers and fractional positions of the atoms in the cell and on all its faces."""
    numbers, places = [], []
    for number, position in zip(structure.atomic_numbers, structure.frac_coords % 1, strict=True):
        position = np.where(position > 1 - TOUCHING, 0.0, position)
        ends = [(x, x + 1) if x < TOUCHING else (x,) for x in position]
        copies = list(product(*ends))
        numbers += [number] * len(copies)
        places += copies
    return np.array(numbers), np.array(places)


def _lines(corners: np.ndarray, points: Float[np.ndarray, "8 2"]) -> str:
    """The twelve edges of the cell."""
    pairs = [
        (a, b)
        for a in range(8)
        for b in range(a + 1, 8)
        if np.abs(corners[a] - corners[b]).sum() == 1
    ]
    path = " ".join(
        f"M{points[a][0]:.1f} {points[a][1]:.1f}L{points[b][0]:.1f} {points[b][1]:.1f}"
        for a, b in pairs
    )
    return f"<path d='{path}' fill='none'/>"


def colour(number: int) -> str:
    """The colour of an element in Jmol."""
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in jmol_colors[number])
