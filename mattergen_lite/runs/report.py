"""The report of a set of judged crystals: one HTML page that opens anywhere, and its figures.

The page holds everything (table, structures, CIFs, code, style) and asks no network for anything:
its content security policy forbids that, and allows no script but the one written here. What comes
from other people's files (names, formulae, errors) is data in JSON, put on the page as text only.
"""

import base64
import gzip
import hashlib
import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, periodic_table_position, symbols
from mattergen_lite.chemistry.oxidation import electronegativity, is_metal
from mattergen_lite.files.folders import write_text
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.processes import Failure, attempt
from mattergen_lite.runs.figures import figures_in, write_figures
from mattergen_lite.runs.folder import FIGURES, REPORT
from mattergen_lite.runs.view import colour
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED, conventional_structure
from mattergen_lite.scoring.score import Cell

# One after the other on the page. Crystals are drawn by a renderer of our own on a plain canvas.
# 3Dmol.js (BSD-3) and MatterViz (MIT) were weighed and not taken. 3Dmol.js 2.5.5 has neither
# conventional cells nor polyhedra nor atoms repeated on cell faces, which is all that was missing;
# its 538 kB minified are five times the report of a dozen crystals; it needs WebGL and carries
# addresses of structure servers. MatterViz 0.2 has all of these, but is published as Svelte sources
# without a build for a page.
_SCRIPTS = ("format", "crystal", "polyhedra", "viewer", "table", "detail", "main")
# Words in the name of a figure between 0 and 1 that is no share of the structures.
_NO_SHARE = frozenset(
    {"sum", "expected", "number", "num", "count", "mean", "median", "std", "energy", "rmsd"}
)

Row = Mapping[str, Cell]
Json = dict | list | str | int | float | bool | None


def write_report(
    folder: Path,
    *,
    title: str,
    rows: Sequence[Row],
    structures: Sequence[Structure | None],
    relaxed: Sequence[Structure | None],
    figures: Mapping[str, object],
    protocol: Mapping[str, str],
    provenance: Mapping[str, object],
    headline: Sequence[Mapping[str, str]] = (),
    passed: Sequence[bool] | None = None,
    is_drawn: bool = False,
) -> Path:
    """Write `report.html` and the files of `figures/` into a folder; returns the page.

    Args:
        folder: Of the run; CIFs that the rows name are read from it, others are made of P1 cells.
        title: Headline.
        rows: One a crystal, as in the table; any column may be missing or empty.
        structures: As judged, one a row; None where there is none to show.
        relaxed: After relaxation, one a row.
        figures: Of the whole set: a share, a number, None or a mapping of such each.
        protocol: How each figure is measured.
        provenance: What it takes to repeat the run, as in `run.json`.
        headline: See `Headline.figures`.
        passed: Whether each crystal passes every required check; None shows all alike.
        is_drawn: The figures of these rows are there already.

    Raises:
        ValueError: If there is not one structure and one relaxed structure (or None) a row.
    """
    if not len(rows) == len(structures) == len(relaxed):
        raise ValueError(
            f"{len(rows)} rows, {len(structures)} structures, {len(relaxed)} relaxed structures: "
            "expected as many of each"
        )
    cifs = [
        [_cif(folder, row.get("cif"), raw), _cif(folder, row.get("relaxed_cif"), after)]
        for row, raw, after in zip(rows, structures, relaxed, strict=True)
    ]
    data = {
        **_table(rows),
        "title": title,
        "headline": _plain(list(headline)),
        "passed": [True] * len(rows) if passed is None else list(passed),
        "structures": [_crystal(structure) for structure in structures],
        "relaxed": [_crystal(structure) for structure in relaxed],
        "has_cif": [[text is not None for text in pair] for pair in cifs],
        "figures": list(_figures(figures, protocol)),
        "protocol": _plain(protocol),
        "provenance": _plain(provenance),
        "elements": _elements(),
        "groups": json.loads(_asset("columns.json")),
    }
    place = folder / FIGURES
    paths = figures_in(place) if is_drawn else write_figures(place, rows, figures)
    drawn = [path for path in paths if path.suffix == ".svg"]
    files = {"cifs": cifs, "figures": {path.stem: path.read_text("utf-8") for path in drawn}}
    write_text(_page(title, data, files), folder / REPORT)
    return folder / REPORT


def _page(title: str, data: Json, files: Json) -> str:
    """The page as text. Files are most of its bytes, so they are compressed."""
    script = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    style = _asset("report.css")
    packed = gzip.compress(json.dumps(files).encode(), mtime=0)
    return Template(_asset("report.html")).substitute(
        title=html.escape(title),
        script=script,
        script_hash=_hash(script),
        style=style,
        style_hash=_hash(style),
        data=_script_safe(data),
        files=base64.b64encode(packed).decode(),
    )


def _asset(name: str) -> str:
    return (files("mattergen_lite") / "assets" / "report" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _script_safe(data: Json) -> str:
    """JSON that no HTML parser can leave: a name may be `</script>`."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# Data of the page


def _table(rows: Sequence[Row]) -> dict[str, list]:
    """Column names once, then values by row; columns that no row has a value for are left out."""
    table = [{name: _plain(value) for name, value in row.items()} for row in rows]
    columns = list(
        dict.fromkeys(
            name
            for row in table
            for name, value in row.items()
            if value is not None and value != ""
        )
    )
    return {"columns": columns, "rows": [[row.get(name) for name in columns] for row in table]}


def _plain(value: object) -> Json:
    """A value as JSON: floats to six digits, nothing that is not a number, the rest as text."""
    if isinstance(value, np.generic):
        value = value.item()
    match value:
        case None | bool() | int() | str():
            return _without_surrogates(value) if isinstance(value, str) else value
        case float():
            return float(f"{value:.6g}") if math.isfinite(value) else None
        case Mapping():
            return {_without_surrogates(str(key)): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
    return _without_surrogates(str(value))


def _without_surrogates(text: str) -> str:
    """Text that can be written: undecodable bytes of a file name arrive as lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def _crystal(structure: Structure | None) -> Json:
    """The cell as it is and, where that is another one, the conventional cell; None if neither."""
    if structure is None:
        return None
    bare = attempt(ordered, structure)
    if isinstance(bare, Failure):
        return None
    conventional = attempt(_conventional, bare)
    has_another = not isinstance(conventional, Failure) and not _is_same_cell(bare, conventional)
    return _geometry(bare) | {"conventional": _geometry(conventional) if has_another else None}


_conventional = partial(conventional_structure, symprec=SYMPREC_GENERATED)


def _is_same_cell(structure: Structure, other: Structure) -> bool:
    """Whether two cells of a crystal have the same lattice vectors, to what a picture shows."""
    return len(structure) == len(other) and np.allclose(
        structure.lattice.matrix, other.lattice.matrix, atol=0.1
    )


def _geometry(structure: Structure) -> dict[str, Json]:
    return {
        "lattice": structure.lattice.matrix.round(4).tolist(),
        "atomic_numbers": list(structure.atomic_numbers),
        "frac_coords": structure.frac_coords.round(4).tolist(),
    }


def _cif(folder: Path, name: Cell, structure: Structure | None) -> str | None:
    """Text of the CIF that the run wrote, else of the structure as it is, else None."""
    written = attempt(partial(_read_inside, folder), name)
    if not isinstance(written, Failure):
        return written
    text = attempt(lambda drawn: str(CifWriter(drawn)), structure)
    return None if isinstance(text, Failure) else text


def _read_inside(folder: Path, name: Cell) -> str:
    """Text of a file in the folder: a table of other people may name any path of this machine."""
    path = (folder / str(name)).resolve()
    if path.suffix != ".cif" or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} is no CIF in {folder}")
    return path.read_text(encoding="utf-8")


def _elements() -> list[list]:
    """By atomic number: symbol, line, column, colour, covalent radius in Å, if it is a metal, and
    electronegativity, None where unknown.
    """
    table: list[list] = [[]]
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        symbol, position = symbols()[number], periodic_table_position(number)
        radius = round(float(covalent_radii[number]), 2)
        eneg = _plain(electronegativity(symbol))
        table.append([symbol, *position, colour(number), radius, is_metal(symbol), eneg])
    return table


def _figures(
    figures: Mapping[str, object], protocol: Mapping[str, str], group: str = ""
) -> Iterator[dict[str, Json]]:
    """One entry a figure, mappings flattened, with how it is measured where that is said."""
    for name, value in figures.items():
        key = f"{group} {name}".strip()
        if isinstance(value, Mapping):
            yield from _figures(value, protocol, key)
            continue
        said = protocol.get(name) or protocol.get(key) or protocol.get(group) or ""
        yield {
            "name": key,
            "value": _plain(value),
            "is_share": _is_share(name, value),
            "protocol": said,
        }


def _is_share(name: str, value: object) -> bool:
    """True for a share of the structures, which is read as a percentage."""
    return isinstance(value, float) and 0 <= value <= 1 and not _NO_SHARE & set(name.split("_"))
