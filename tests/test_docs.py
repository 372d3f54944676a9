"""The documentation builds without warnings or network; links lead somewhere, commands parse."""

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pymatgen.core import Lattice, Structure

import mattergen_lite
from mattergen_lite import judge
from mattergen_lite.cli import app
from mattergen_lite.commands import COMMANDS, IN_MEMORY
from mattergen_lite.config import RunConfig
from mattergen_lite.scoring.metrics.summary import PROTOCOL, STABILITY_PROTOCOL

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a browser finds in a page: anchors, links, things to load, text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.text = set(), [], [], ""
        self.tags = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if attributes.get(LOADED.get(tag, "")):
            self.loads.append(attributes[LOADED[tag]])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, page by page."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    pages = {path: Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 20
    return folder, pages


def text_of(site, name: str) -> str:
    folder, pages = site
    return pages[folder / name].text


def test_internal_links_lead_somewhere(site):
    _, pages = site
    broken = []
    for path, page in pages.items():
        for address in [*page.links, *page.loads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].ids if target in pages else {parts.fragment}
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.name}: {address}")
    assert broken == []


def test_external_links_are_well_formed(site):
    for page in site[1].values():
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("http", "https", "mailto"), address
                assert " " not in address, address
                assert "." in parts.netloc or parts.scheme == "mailto", address


def test_nothing_is_loaded_from_elsewhere(site):
    for path, page in site[1].items():
        for address in page.loads:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"


def test_equations_are_mathml(site):
    folder, pages = site
    for name in ("diffusion", "network", "sampling", "judge"):
        page = pages[folder / "explanation" / f"{name}.html"]
        assert page.tags.count("math") >= 4
        assert page.tags.count("merror") == 0
    for path, page in pages.items():
        assert not re.search(r"\\(frac|sigma|left|sum)\b", page.text), path.name


def test_nothing_is_left_open(site):
    for path, page in site[1].items():
        assert "<!-- verbs" not in path.read_text(), path.name
        assert "--8<--" not in page.text, path.name


@pytest.mark.parametrize("verb", ["generate", "score", "train", "finetune", "probe_fit"])
def test_every_option_is_in_the_reference(site, verb):
    page = text_of(site, "reference/cli.html")
    for name, parameter in inspect.signature(getattr(mattergen_lite, verb)).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert f"--{name.replace('_', '-')}" in page


def test_every_key_and_figure_is_in_the_reference(site):
    page = text_of(site, "reference/config.html")
    for section, field in RunConfig.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for key in [f"{section}.{name}" for name in inner] if inner else [section]:
            assert key in page or key in ("model.network", "model.noise")
    glossary = text_of(site, "reference/metrics.html")
    for name, protocol in (PROTOCOL | STABILITY_PROTOCOL).items():
        assert name in glossary
        assert protocol in glossary


def test_every_module_of_the_python_reference_has_its_text(site):
    page = text_of(site, "reference/api.html")
    for name in (*COMMANDS, *IN_MEMORY):
        assert inspect.getdoc(getattr(mattergen_lite, name)).splitlines()[0].split("`")[0] in page
    for sentence in (
        "Lattice: Gaussian noise on the free numbers of the cell",
        "The reference convex hull",
    ):
        assert sentence in page


# The sources


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [
        line for path in SOURCES for block in blocks(path, "bash") for line in block.splitlines()
    ]
    lines += re.findall(r"^\|.*`(mattergen-lite .*)` \|$", SOURCES[0].read_text(), re.MULTILINE)
    assert len(lines) > 8
    return sorted({line for line in lines if line.startswith("mattergen-lite ")})


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(Exception, match="--nonsense"):
        app.parse_args(
            ["generate", "--out", "x", "--nonsense"], exit_on_error=False, print_error=False
        )


def test_python_examples_import_what_exists():
    for path in SOURCES:
        for block in blocks(path, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("mattergen_lite"):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names), path


def test_the_phase_diagram_of_the_page_is_drawn(tmp_path):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    salts = {
        metal: Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "Cl"], sites)
        for metal, a in (("Li", 5.1), ("Na", 5.6))
    }
    judged = judge(salts, potential="chgnet", second_opinion=None, num_workers=0)
    judged.save(tmp_path / "results")
    (script,) = blocks(ROOT / "docs" / "howto" / "phase-diagram.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    heights = dict(re.findall(r"^\S+ (\w+): ([-+]\d\.\d+) eV/atom", done.stdout, re.MULTILINE))
    for one in judged:
        height = float(heights[one.final_structure.composition.reduced_formula])
        assert height == pytest.approx(one.stability.e_above_hull, abs=2e-3)
    assert (tmp_path / "diagram.png").stat().st_size > 5000
