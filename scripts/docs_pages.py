"""Reference pages of the documentation, from the package itself: nothing is copied by hand.

    python scripts/docs_pages.py

writes those of docs/reference/, so that they can be read on a plain checkout. The pages of
notebooks are made while the site is built.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from pymatgen.core import Lattice, Structure

from mattergen_lite.benchmarking.protocols import PROTOCOLS
from mattergen_lite.chemistry.elements import GROUP_MEANINGS, element_groups, symbols
from mattergen_lite.cli import app
from mattergen_lite.commands import COMMANDS, IN_MEMORY, module_of
from mattergen_lite.config import PropertyConfig, RunConfig, shipped
from mattergen_lite.hub import read_config
from mattergen_lite.options.judge import CHECK_NAMES
from mattergen_lite.scoring import computed_properties
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.metrics import summary
from mattergen_lite.scoring.property_result import PropertyResult
from mattergen_lite.scoring.score import Score, criteria_of

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"


@dataclass(frozen=True)
class Field:
    """One field of a class as its source has it, with its comment."""

    name: str
    type: str
    default: str
    note: str


def fields_of(section: type) -> list[Field]:
    """Annotated fields of a class; the note is the comment on a field's line or right above it."""
    lines = textwrap.dedent(inspect.getsource(section)).splitlines()
    (definition,) = ast.parse("\n".join(lines)).body
    return [
        Field(
            name=node.target.id,
            type=ast.unparse(node.annotation),
            default=ast.unparse(node.value) if node.value else "",
            note=_comment(lines, node),
        )
        for node in definition.body
        if isinstance(node, ast.AnnAssign)
    ]


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    """The comment that belongs to a field."""
    beside = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    if "#" in beside:
        return beside.partition("#")[2].strip()
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip("# "))
    return " ".join(above)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; vertical bars in cells that are not code are escaped."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text if text.startswith("`") else text.replace("|", r"\|")


def code(text: str) -> str:
    """Text in code type, or nothing."""
    return f"`{text}`" if text else ""


# Pages


def command_line() -> str:
    """What `--help` of every command says."""
    text = app.generate_docs(usage_name=app.name[0])
    # Outside code, <out> would be taken for HTML.
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def configuration() -> str:
    """Every key of the configuration with its default."""
    text = (
        "# Configuration\n\nYAML files are merged left to right, then `key=value` overrides such "
        "as `trainer.devices=4`. A key that does not exist is an error that names the nearest "
        "one.\n\n"
    )
    return text + "\n".join(_sections(RunConfig, ""))


def _sections(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """A table of the keys of a section, then those of the sections in it."""
    nested = {
        name: field.annotation
        for name, field in section.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    yield f"## {code(prefix.rstrip('.')) or 'The run'}\n\n{inspect.getdoc(section)}\n"
    rows = [
        (code(prefix + field.name), code(field.type), code(field.default) or "required", field.note)
        for field in fields_of(section)
        if field.name not in nested and field.name in section.model_fields
    ]
    yield table(("key", "type", "default", "what"), rows) + "\n"
    for name, inner in nested.items():
        yield from _sections(inner, f"{prefix}{name}.")
    if "properties" in section.model_fields:
        (entry,) = section.model_fields["properties"].annotation.__args__[:1]
        yield from _sections(entry, f"{prefix}properties[].")


def metrics() -> str:
    """Every figure of `summary.json` with its protocol."""
    shares = table(("figure", "protocol"), [(code(k), v) for k, v in summary.PROTOCOL.items()])
    stability = table(
        ("figure", "protocol"), [(code(k), v) for k, v in summary.STABILITY_PROTOCOL.items()]
    )
    benchmarks = table(
        ("protocol", "figure", "column", "what"),
        [
            (code(protocol.name), code(figure.name), figure.heading, figure.how)
            for protocol in PROTOCOLS
            for figure in protocol.figures
        ],
    )
    return f"""# Metrics and protocols

Shares are of **all** structures of a set: what could not be read passes nothing. Raw and relaxed
figures are kept apart in `summary.json` and never mixed.

## Of a set, as it came and as it relaxed

{shares}

## Of a set, after relaxation

{stability}

## Of `benchmark`, under a protocol

{benchmarks}

## Checks of one candidate

In the order of what they cost; `--require` takes some of them: {", ".join(map(code, CHECK_NAMES))}.

The symmetry tolerance is 0.1 Å, for crystals as they came and for relaxed ones. What the columns of
a row mean is in [the columns of the table](columns.md); how a target counts as hit is in
[the properties](properties.md).
"""


def columns() -> str:
    """Every column that a criterion adds to the table, as the code documents it."""
    text = (
        "# Columns of the table\n\nOf `candidates.csv`. Empty cells are unknown. Text "
        "that a spreadsheet would take for a formula (`-1 1`) begins with an apostrophe; "
        "`candidates.parquet` has the text itself. "
        "Columns that begin with `relaxed_` say the same of the relaxed crystal; `rank`, `verdict` "
        "and `failed_checks` sum up.\n"
    )
    criteria = criteria_of(Score) | criteria_of(Candidate) | {"targets": PropertyResult}
    headings = {name: kind for name, kind in criteria.items() if kind is not Score}
    for name, criterion in headings.items():
        rows = [(code(field.name), code(field.type), field.note) for field in fields_of(criterion)]
        text += f"\n## {name.capitalize()}\n\n{inspect.getdoc(criterion)}\n\n"
        text += table(("column", "type", "what"), rows) + "\n"
    return text + (
        "\nOf targets, columns a property: `target_<name>`; `measured_<name>`, exact or of the "
        "known crystal that this one equals, or by DFT; `predicted_<name>` by the regression that "
        "guides; `confirmed_<name>` by a method that does not guide, of the relaxed crystal if "
        "there is one; their mean absolute errors in `predicted_<name>_error` and "
        "`confirmed_<name>_error`; `method_<name>`, which says what decides: structure, potential, "
        "known, DFT, equation of state, moments, network, regression or outside domain. "
        "`on_target` is one for all.\n"
    )


# What confirms a property of a relaxed crystal, in words.
CONFIRMED_BY = {
    "band_gap": "an independent network",
    "bulk_modulus": "the equation of state of the deciding potential",
    "magnetic_density": "CHGNet's moments",
}


def properties() -> str:
    """What the shipped models can be asked for, and how it is measured."""
    measured = set(computed_properties.measure(_nacl(), symprec=0.1))
    by_potential = {"formation_energy_per_atom", "e_above_hull"}
    text = (
        "# Properties\n\nWhat `--condition` takes, model by model, with the range seen in training "
        "where the model records it. A property is on target within the stated tolerance, or "
        "inside the range that was asked for.\n"
    )
    for folder in sorted(path.parent for path in shipped("checkpoints").glob("*/config.yaml")):
        rows = []
        for prop in read_config(folder).properties:
            how = "only with a probe"
            if prop.name in measured:
                how = "exactly"
            elif prop.name in by_potential:
                how = "by the potentials"
            elif (folder / "predictors" / prop.name).exists():
                how = "predicted by a regression"
                if prop.name in CONFIRMED_BY:
                    how += f", confirmed by {CONFIRMED_BY[prop.name]}"
            rows.append(
                (
                    code(prop.name),
                    prop.unit,
                    prop.kind + (", logarithm" if prop.log else ""),
                    _seen(prop),
                    how,
                    _tolerance(prop),
                )
            )
        text += f"\n## {folder.name}\n\n"
        text += table(("property", "unit", "kind", "seen", "measured", "on target"), rows) + "\n"
    groups = [
        (code(name), GROUP_MEANINGS[name], " ".join(sorted(members, key=symbols().index)))
        for name, members in element_groups().items()
    ]
    return (
        text + "\n## Groups of elements\n\n" + table(("group", "what", "elements"), groups) + "\n"
    )


def _nacl() -> Structure:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], sites)


def _seen(prop: PropertyConfig) -> str:
    if prop.kind == "category":
        return f"1 to {prop.num_categories}"
    if prop.minimum is None or prop.maximum is None:
        return ""
    return f"{prop.minimum:.4g} to {prop.maximum:.4g}"


def _tolerance(prop: PropertyConfig) -> str:
    if prop.kind != "real":
        return "equal"
    allowed = computed_properties.tolerance(prop.name)
    parts = [f"± {allowed.absolute:g} {prop.unit}".strip()] if allowed.absolute else []
    return " or ".join([*parts, *([f"± {allowed.relative:.0%}"] if allowed.relative else [])])


def model_cards() -> str:
    """The cards of all shipped models."""
    cards = [card.read_text() for card in sorted(shipped("checkpoints").glob("*/model_card.md"))]
    demoted = [re.sub(r"^#", "##", card, flags=re.MULTILINE) for card in cards]
    return "\n\n".join(["# Model cards", *demoted])


# Pages of docs/reference/ that are written by this script.
REFERENCE = {
    "cli.md": command_line,
    "config.md": configuration,
    "metrics.md": metrics,
    "columns.md": columns,
    "properties.md": properties,
    "models.md": model_cards,
}
GENERATED = "<!-- Written by scripts/docs_pages.py: change the package and run it again. -->\n\n"


def reference_pages() -> dict[Path, str]:
    """Files of the reference pages and their content."""
    folder = ROOT / "docs" / "reference"
    return {folder / name: GENERATED + page().rstrip() + "\n" for name, page in REFERENCE.items()}


def verbs() -> str:
    """Entries of the Python reference for all functions of the package."""
    entries = [
        f"::: {module_of(name)}\n    options: "
        f"{{ members: [{name}], show_root_toc_entry: false, show_root_heading: false }}"
        for name in (*COMMANDS, *IN_MEMORY)
    ]
    return "\n\n".join(entries)


# Pages of the site


def for_site(markdown: str) -> str:
    """A page as the site shows it: the verbs where it asks for them, notebooks as pages.

    On a checkout, pages link to the notebooks themselves.
    """
    markdown = markdown.replace("<!-- verbs -->", verbs())
    return re.sub(r"\(\.\./\.\./notebooks/(\w+)\.ipynb", r"(../notebooks/\1.md", markdown)


# Notebooks


@dataclass(frozen=True)
class NotebookPage:
    """A notebook as a page with its pictures."""

    title: str
    markdown: str
    images: dict[str, bytes]  # file name -> content


def notebook_page(path: Path) -> NotebookPage:
    """The cells of a notebook and the outputs it was kept with."""
    import base64

    images: dict[str, bytes] = {}
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((k for k in ("image/gif", "image/png") if k in data), None)
            if kind:
                name = f"{path.stem}_{len(images)}.{kind.removeprefix('image/')}"
                images[name] = base64.b64decode("".join(data[kind]))
                parts.append(f"![output]({name})")
            elif "<svg" in (page := "".join(data.get("text/html", ""))):
                parts.append(f"<div>{page}</div>")
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    title = parts[0].splitlines()[0].lstrip("# ")
    return NotebookPage(title=title, markdown="\n\n".join(parts), images=images)


def notebook_index(pages: dict[str, NotebookPage]) -> str:
    """Links to all notebooks."""
    lines = [f"- [{page.title}]({stem}.md)" for stem, page in pages.items()]
    text = (
        "# Notebooks\n\nRun in CI from start to end; shown here with the outputs they were kept "
        "with. The files are in `notebooks/` of the repository.\n"
    )
    return "\n".join([text, *lines, ""])


if __name__ == "__main__":
    for path, text in reference_pages().items():
        path.write_text(text, encoding="utf-8")
