"""The report: everything is in the page, nothing comes from outside, nothing in it can run."""

import base64
import csv
import gzip
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, quartz, rutile, single_atom, triclinic
from matplotlib.image import imread
from pymatgen.core import Lattice, Structure

from mattergen_lite.files.folders import write_text
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.io.write import to_cif
from mattergen_lite.processes import Pool
from mattergen_lite.runs.figures import _hull_bins
from mattergen_lite.runs.report import write_report
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.score import score

HOSTILE = '</script><script>document.title="owned"</script>&amp;"\u2028'
HOSTILE_ERROR = "unreadable: <img src=x onerror=\"document.title='owned'\">"
RECORDS = [
    StructureRecord("nacl", nacl()),
    StructureRecord("rutile", rutile()),
    StructureRecord("quartz", quartz()),
    StructureRecord(HOSTILE, triclinic()),
    StructureRecord("broken", None, HOSTILE_ERROR),
    StructureRecord("nacl", nacl_primitive()),  # a name twice: they are other people's
]
STABILITIES = {
    "rutile": Stability(
        e_above_hull=0.012, e_above_hull_std=0.05, probability_metastable=0.93,
        probability_stable=0.4, formation_energy_per_atom=-3.2,
    ),
    "quartz": Stability(
        e_above_hull=0.25, e_above_hull_std=0.09, probability_metastable=0.04,
        probability_stable=0.01, formation_energy_per_atom=-2.9,
    ),
}  # fmt: skip


LABELS = ("Delivered", "Sampled", "Expected M.S.U.N.", "Best", "Chemical systems", "Time")
HEADLINE = [{"label": label, "value": "NaCl", "more": HOSTILE_ERROR} for label in LABELS]


class Page(HTMLParser):
    """What a browser finds in the page: attributes that name addresses, scripts, styles, text."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.policy, self.title = [], "", ""
        self.elements = Counter()
        self.contents = {}
        self.open = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements[tag] += 1
        self.open = attributes.get("id", tag)
        named = {"src", "href", "action", "data", "srcset", "poster", "xlink:href"}
        self.addresses += [value for name, value in attributes.items() if name in named]
        if "http-equiv" in attributes:
            self.policy = attributes["content"]

    def handle_data(self, text):
        self.contents[self.open] = self.contents.get(self.open, "") + text

    def handle_endtag(self, tag):
        self.open = None

    @property
    def data(self):
        return json.loads(self.contents["data"])

    @property
    def rows(self):
        return [dict(zip(self.data["columns"], row, strict=True)) for row in self.data["rows"]]

    @property
    def files(self):
        return json.loads(gzip.decompress(base64.b64decode(self.contents["files"])))


def judged_rows(records, stabilities=None):
    with Pool(0) as pool:
        judged = score(records, result_cache=ResultCache(pool, progress=False))
    stabilities = stabilities or {}
    return [
        Candidate(raw=one, structure=None, stability=stabilities.get(one.name)).row()
        for one in judged
    ]


def write(folder, rows, structures=None, relaxed=None, **others):
    defaults = {"title": "Test", "figures": {}, "protocol": {}, "provenance": {}}
    return write_report(
        folder,
        rows=rows,
        structures=structures or [None] * len(rows),
        relaxed=relaxed or [None] * len(rows),
        **{**defaults, **others},
    )


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of good, hostile, nameless and broken crystals, two of them judged for stability."""
    structures = [record.structure for record in RECORDS]
    relaxed = [None, rutile().apply_strain(0.01, inplace=False), None, None, None, None]
    return write(
        tmp_path_factory.mktemp("report"),
        judged_rows(RECORDS, STABILITIES),
        structures,
        relaxed,
        title=f"Six crystals {HOSTILE}",
        headline=HEADLINE,
        figures={"readable": 5 / 6, "novel": None, "metastable": {"expected": 0.97, "share": 0.5}},
        protocol={"readable": "judged without an error", "metastable": "within 0.1 eV/atom"},
        provenance={"verb": "score", "arguments": {"source": "x"}, "finished": "2026-01-02T03:04"},
    )


# What is in the page


def test_every_row_is_in_the_page(report):
    rows = read(report).rows
    assert [row["name"] for row in rows] == [record.name for record in RECORDS]
    assert [row["space_group"] for row in rows[:3]] == [225, 136, 154]
    assert rows[4]["error"] == HOSTILE_ERROR
    assert [row["e_above_hull"] for row in rows] == [None, 0.012, 0.25, None, None, None]


def test_structures_are_those_that_were_judged(report):
    data = read(report).data
    assert [structure is None for structure in data["structures"]] == [False] * 4 + [True, False]
    assert [structure is None for structure in data["relaxed"]] == [True, False, *[True] * 4]
    drawn, original = data["structures"][3], triclinic()
    np.testing.assert_allclose(drawn["lattice"], original.lattice.matrix, atol=1e-4)
    np.testing.assert_allclose(drawn["frac_coords"], original.frac_coords, atol=1e-4)
    assert drawn["atomic_numbers"] == [3, 15, 16, 8]


def test_cif_is_embedded_as_it_was_written(tmp_path):
    write_text(to_cif(rutile(), 0.1).text, tmp_path / "cifs" / "rutile.cif")
    rows = [{"name": "rutile", "cif": "cifs/rutile.cif"}, {"name": "free", "cif": "cifs/gone.cif"}]
    (written, relaxed), (own, _) = read(write(tmp_path, rows, [rutile(), nacl()])).files["cifs"]
    assert written == (tmp_path / "cifs" / "rutile.cif").read_text()
    assert relaxed is None
    assert Structure.from_str(own, fmt="cif").composition == nacl().composition


def test_no_other_file_is_embedded(tmp_path):
    (tmp_path / "secret.cif").write_text("secret")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "run.json").write_text("secret")
    named = ["../secret.cif", str(tmp_path / "secret.cif"), "run.json", "x" * 9999, "data_\n\0", 7]
    rows = [{"name": str(number), "cif": name} for number, name in enumerate(named)]
    assert read(write(folder, rows)).files["cifs"] == [[None, None]] * len(rows)


def test_figures_of_the_set_come_with_their_protocol(report):
    figures = {figure["name"]: figure for figure in read(report).data["figures"]}
    assert figures["readable"]["is_share"]
    assert figures["readable"]["protocol"] == "judged without an error"
    assert figures["novel"]["value"] is None
    assert figures["metastable expected"]["value"] == 0.97
    assert not figures["metastable expected"]["is_share"]  # a number of crystals, not 97%
    assert figures["metastable share"]["is_share"]
    assert figures["metastable share"]["protocol"] == "within 0.1 eV/atom"


# Whatever the rows lack


def test_rows_of_other_columns(tmp_path):
    rows = [{"name": "a", "odd": np.float64(1.5)}, {"name": None, "energy": math.nan}, {}]
    page = read(write(tmp_path, rows))
    assert page.data["columns"] == ["name", "odd"]  # no row has an energy
    assert page.data["rows"] == [["a", 1.5], [None, None], [None, None]]


def test_report_of_nothing(tmp_path):
    assert read(write(tmp_path, [])).data["rows"] == []
    assert not (tmp_path / "figures").exists()


def test_a_structure_that_cannot_be_drawn_loses_no_other(tmp_path):
    disordered = Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    flat = Structure(Lattice([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), ["Na"], [[0, 0, 0]])
    lost = Structure(Lattice.cubic(3), ["Na"], [[math.nan, 0, 0]])
    structures = [disordered, flat, lost, single_atom()]
    page = read(write(tmp_path, [{"name": str(n)} for n in range(4)], structures))
    assert [structure is None for structure in page.data["structures"]] == [True] * 3 + [False]


def test_lengths_must_agree(tmp_path):
    with pytest.raises(ValueError, match="1 rows, 2 structures, 1 relaxed"):
        write(tmp_path, [{"name": "a"}], [nacl(), nacl()])


# Nothing from outside, nothing that runs


def test_nothing_is_loaded_from_outside(report):
    text, page = report.read_text(), read(report)
    assert page.addresses == []
    assert not re.search(r"https?://|src=[\"']?//|@import|url\(", text.replace(HOSTILE_ERROR, ""))
    assert "default-src 'none'" in page.policy


def test_policy_allows_this_script_and_style_only(report):
    page = read(report)
    for name, kind in (("script", "script-src"), ("style", "style-src")):
        digest = base64.b64encode(hashlib.sha256(page.contents[name].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in page.policy


def test_text_of_other_people_is_never_markup(report):
    page = read(report)
    assert page.elements["script"] == 3  # data, CIFs and the code of the page
    assert page.elements["img"] == 0
    assert HOSTILE in page.contents["title"]


def test_scripts_share_no_names():
    """They are one script on the page, where a second function of a name replaces the first."""
    scripts = (files("mattergen_lite") / "assets" / "report").glob("*.js")
    declaration = re.compile(r"^(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)
    names = Counter(name for path in scripts for name in declaration.findall(path.read_text()))
    assert [name for name, count in names.items() if count > 1] == []


# Figures


def test_figures_are_fit_for_print(report):
    folder = report.parent / "figures"
    names = {path.name for path in folder.iterdir()}
    stems = (
        "hull_distance", "cumulative_energy", "formation_energy", "elements", "crystal_systems",
        "density", "phase_diagram",
    )  # fmt: skip
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf", "svg")}
    assert all(path.read_bytes()[:5] == b"%PDF-" for path in folder.glob("*.pdf"))
    assert "energy above hull" in (folder / "hull_distance.svg").read_text()  # text stays text
    for path in folder.glob("*.png"):
        pixels = imread(path)
        assert pixels.shape[1] >= 1300  # a column of 4.6 inches at 300 dpi
        assert pixels[..., :3].std() > 0.05  # something is drawn


def test_figures_without_stability(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "hull_distance.png").touch()  # of an earlier run
    write(tmp_path, judged_rows([StructureRecord("cu", single_atom())]), [single_atom()])
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"elements", "crystal_systems", "density"}


def test_figures_of_odd_values(tmp_path):
    odd = {"e_above_hull": math.inf, "probability_metastable": 0.5, "crystal_system": "cubist"}
    write(tmp_path, [odd, {"chemical_system": "Xx-<b>", "density": "heavy"}])
    assert not (tmp_path / "figures").exists()


# In a browser


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    return found


@pytest.fixture
def browse(browser, tmp_path):
    """Open an address headless, with a new empty profile and no network; returns what it prints."""

    def run(address, *options):
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900", "--hide-scrollbars", *options, address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        return done.stdout

    return run


@pytest.fixture
def evaluate(browse, tmp_path):
    """Run a script (it may await) at the end of a report, and return what it returns."""

    def run(report, script, *options):
        text = re.sub(r"<meta http-equiv[^\n]*\n", "", report.read_text(encoding="utf-8"))
        answer = (
            "<script>(async () => { document.body.dataset.answer = JSON.stringify("
            f"await (async () => {{ {script} }})()); }})();</script></body>"
        )
        copy = tmp_path / "copy.html"
        copy.write_text(text.replace("</body>", answer), encoding="utf-8")
        page = browse(copy.as_uri(), *options, "--dump-dom", "--virtual-time-budget=5000")
        assert 'data-errors="0"' in page
        found = []
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, given: found.append(dict(given).get("data-answer"))
        parser.feed(page)
        return json.loads(next(filter(None, found)))

    return run


def test_crystal_is_drawn(report, browse, tmp_path):
    picture = tmp_path / "page.png"
    browse(report.as_uri() + "#nacl", f"--screenshot={picture}", "--timeout=5000")
    pixels = (255 * imread(picture)[..., :3]).astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    # Nothing else on the page is purple or pure green: sodium and chlorine in Jmol's colours.
    assert ((blue > green + 80) & (red > green + 40)).sum() > 3000
    assert ((green > red + 80) & (green > blue + 80)).sum() > 1500


def test_address_opens_a_row_without_errors(report, browse):
    page = browse(report.as_uri() + "#nacl", "--dump-dom", "--virtual-time-budget=3000")
    assert 'data-ready="true"' in page
    assert 'data-errors="0"' in page
    assert 'data-atoms="27"' in page  # 8 in the cell, the others repeated on its faces
    assert 'data-bonds="54"' in page  # the edges of eight cubes of 2.845 Å
    assert "<title>Six crystals" in page  # and not "owned"


def test_row_with_an_error_is_shown(report, evaluate):
    script = (
        "setFilter('error:'); openRow(view.rows[0]); await new Promise((go) => setTimeout(go, 50));"
        "return [view.rows, panel.querySelector('.warning').textContent, document.title]"
    )
    rows, warning, title = evaluate(report, script)
    assert rows == [4]
    assert warning == f"Error: {HOSTILE_ERROR}"
    assert title.startswith("Six crystals")


def test_filter_and_order(report, evaluate):
    script = """
        const found = (filter) => { setFilter(filter); return [...view.rows]; };
        const filters = ["O", "!O", "e_above_hull<0.1", "rutile Ti", "trigonal", '"no such"'];
        const filtered = filters.map(found);
        setFilter("");
        const sorted = (name) => { sortBy(name); return view.rows.slice(0, 4); };
        return [filtered, sorted("e_above_hull"), sorted("e_above_hull"), sorted("density")]
    """
    filtered, rising, falling, by_density = evaluate(report, script)
    assert filtered == [[1, 2, 3], [0, 4, 5], [1], [1], [2], []]
    assert rising == [1, 2, 0, 3]  # rows without a value come last, in the order of the table
    assert falling == [2, 1, 0, 3]
    assert by_density == [3, 0, 5, 2]


def test_names_twice_have_addresses_of_their_own(report, evaluate):
    script = """
        location.hash = "nacl~2";
        await new Promise((go) => setTimeout(go, 50));
        return [openedRow(), viewer.canvas.dataset.atoms]
    """
    assert evaluate(report, script) == [5, "27"]  # of the conventional cell


def test_supercell_relaxed_and_cif(report, evaluate):
    script = """
        openRow(1);
        await new Promise((go) => setTimeout(go, 50));
        const toolbar = [...panel.querySelectorAll(".toolbar button")];
        const buttons = toolbar.map((node) => node.textContent);
        const relaxed = panel.querySelector("figcaption .cell").textContent;
        viewer.set({ repeat: 2 });
        return [buttons, relaxed, viewer.edges.length, (await readFiles()).cifs[1].map(Boolean)]
    """
    buttons, caption, num_edges, cifs = evaluate(report, script)
    assert buttons[:5] == ["raw", "relaxed", "2×2×2", "bonds", "polyhedra"]
    assert caption.startswith("Cell, relaxed: a 4.64 b 4.64 c 2.99 Å")
    assert num_edges == 54  # 3 directions, 9 lines of two edges each
    assert cifs == [True, True]


def test_many_rows_are_drawn_as_they_are_scrolled_to(tmp_path, evaluate):
    rows = [{"name": f"{n:04}", "density": n % 7 / 3, "num_atoms": 8} for n in range(2000)]
    report = write(tmp_path, rows)
    script = "return [view.rows.length, document.querySelectorAll('tbody tr').length]"
    assert evaluate(report, script) == [2000, 80]


def test_empty_report_opens(tmp_path, evaluate):
    assert evaluate(write(tmp_path, []), "return view.rows.length") == 0


NARROW = "--window-size=400,900"
WAIT = "await new Promise((go) => setTimeout(go, 60));"


def test_six_figures_then_the_table_and_the_rest_is_folded(report, evaluate):
    script = """
        const top = (node) => node.getBoundingClientRect().top;
        const cards = [...document.querySelectorAll("#headline .figure")];
        const folds = [...document.querySelectorAll("details.fold")];
        return [cards.map((card) => card.querySelector(".label").textContent),
          Math.max(...cards.map(top)) < top(tableBox), top(tableBox),
          folds.map((fold) => fold.open), folds.every((fold) => top(fold) > top(tableBox)),
          document.documentElement.scrollWidth <= innerWidth]
    """
    labels, *answers = evaluate(report, script)
    assert labels == [*LABELS]
    table_below, place, opened, below, fits = answers
    assert table_below
    assert below
    assert fits
    assert place < 900  # in the first screen
    assert opened == [False] * 3
    assert evaluate(report, script, NARROW)[-1]  # nothing is wider than a phone


@pytest.mark.parametrize("size", ["--window-size=1400,1000", NARROW])
def test_pictures_of_the_best_are_in_the_first_screen(report, evaluate, size):
    script = f"""
        while (!document.querySelector("#energies img")) {WAIT}
        await document.querySelector("#energies img").decode();
        const pictures = [...document.querySelectorAll(".picture")];
        return [pictures.map((node) => node.querySelector(".formula").textContent),
          pictures.map((node) => Number(node.querySelector("canvas").dataset.atoms)),
          Math.max(...pictures.map((node) => node.getBoundingClientRect().bottom)),
          document.querySelector("#energies img").naturalWidth,
          document.documentElement.scrollWidth <= innerWidth]
    """
    formulas, atoms, bottom, energies, fits = evaluate(report, script, size)
    assert len(formulas) == 4
    assert min(atoms) > 0
    assert bottom < 1000
    assert energies > 100
    assert fits


def test_what_fails_a_check_is_behind_a_switch(tmp_path, evaluate):
    energies = {"good": -0.0001, "bad": 0.4, "worse": 0.5}
    verdict = "passes every check; -0.000 ± 0.050 eV/atom above the hull, within 0.1 with "
    verdict += "probability 0.98, against 1 NaCl (chgnet disagrees); flags: scarce"
    rows = [
        {"name": name, "e_above_hull": one, "verdict": verdict, "flags": "scarce"}
        for name, one in energies.items()
    ]
    report = write(tmp_path, rows, passed=[True, False, False])
    script = """
        const names = () => [...document.querySelectorAll("tbody tr td.name")];
        const listed = () => names().map((node) => node.textContent);
        const before = listed();
        rejectsBox.click();
        const row = document.querySelector("tbody tr").textContent;
        return [before, listed(), row, document.querySelector("td.verdict").textContent]
    """
    before, after, row, said = evaluate(report, script)
    assert before == ["good"]
    assert after == [*energies]
    assert "0.000" in row
    assert "−0.000" not in row
    assert said == "against 1 NaCl (chgnet disagrees) scarce"
    assert evaluate(write(tmp_path, rows), "return [view.rows.length, rejects.hidden]") == [3, True]


def test_figures_of_the_folder_are_in_the_page(report, evaluate):
    script = f"""
        document.getElementById("charts-fold").open = true;
        while (!document.querySelector("#energies img")) {WAIT}
        const pictures = [...document.querySelectorAll("#charts img, #energies img")];
        await Promise.all(pictures.map((node) => node.decode()));
        return pictures.map((node) => [node.alt, node.naturalWidth > 100])
    """
    names = {path.stem.replace("_", " ") for path in (report.parent / "figures").glob("*.svg")}
    assert sorted(evaluate(report, script)) == [[name, True] for name in sorted(names)]


@pytest.mark.parametrize("size", ["--window-size=1400,900", NARROW])
def test_the_drawer_takes_the_focus_and_gives_it_back(report, evaluate, size):
    script = f"""
        const press = (key) => document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
        const link = document.querySelector("#row-1 a");
        link.focus();
        link.click();
        {WAIT}
        const inside = panel.contains(document.activeElement);
        const inert = document.querySelector("main").inert;
        press("ArrowRight");
        {WAIT}
        const next = openedRow();
        press("Escape");
        {WAIT}
        return [inside, inert, next, panel.hidden, document.activeElement.closest("tr")?.id,
          document.querySelector("main").inert]
    """
    inside, inert, following, hidden, row, inert_after = evaluate(report, script, size)
    assert (inside, following, hidden, row, inert_after) == (True, 2, True, "row-2", False)
    assert inert == (size == NARROW)  # what the drawer covers cannot be reached


def test_unknown_columns_of_a_filter_are_named(report, evaluate):
    script = """
        const node = document.getElementById("problem");
        const said = (filter) => { setFilter(filter); return node.hidden ? "" : node.textContent; };
        return ["hull<0.1", "density>heavy", '"hull<0.1"', "density>3"].map(said)
    """
    unknown, no_number, *fine = evaluate(report, script)
    assert unknown.startswith("There is no column “hull”. Did you mean e_above_hull")
    assert no_number.startswith("“heavy” is no number")
    assert fine == ["", ""]


def test_what_was_asked_for_is_in_the_table_at_first(tmp_path, evaluate):
    gap = {"target": 2.0, "measured": None, "predicted": 2.3, "method": "regression"}
    more = {f"{name}_band_gap": value for name, value in gap.items()}
    more["predicted_band_gap_error"] = 0.5
    path = write(tmp_path, [row | more for row in judged_rows(RECORDS[:2])])
    shown = evaluate(path, "return view.columns")
    assert [name for name in shown if "band_gap" in name] == ["predicted_band_gap"]


def test_the_csv_has_the_rows_that_the_filter_leaves(report, evaluate):
    script = "setFilter('O'); sortBy('density'); return [tableText(), view.rows]"
    text, rows = evaluate(report, script)
    found = list(csv.DictReader(io.StringIO(text)))
    assert [one["name"] for one in found] == [RECORDS[row].name for row in rows]
    assert list(found[0]) == read(report).data["columns"]
    guarded = "return ['=1+1', '-1', -1, 'a,b', null, true].map(csvCell)"
    assert evaluate(report, guarded) == ["'=1+1", "'-1", "-1", '"a,b"', "", "True"]


def test_polyhedra_reach_over_the_cell(report, evaluate):
    script = f"""
        openRow(1); {WAIT}
        viewer.set({{ polyhedra: true }});
        const [first] = viewer.polyhedra;
        const faces = (points) => hullFaces(points).map((face) => face.length).sort();
        const cube = [0, 1].flatMap((x) => [0, 1].flatMap((y) => [0, 1].map((z) => [x, y, z])));
        return [viewer.polyhedra.length, first.corners.length, first.faces.length,
          viewer.atoms.length, faces(cube), faces(cube.slice(0, 4))]
    """
    num, corners, num_faces, atoms, cube, square = evaluate(report, script)
    assert (num, corners, num_faces) == (9, 6, 8)  # octahedra of nine titanium atoms of rutile
    assert atoms > 15  # nine titanium and six oxygen atoms are in or on the cell
    assert cube == [4] * 6
    assert square == [4]


@pytest.mark.parametrize("energies", [[-0.144, 0.012, 0.09], [0.1], [-0.3, 5.0], [0.1, 0.15]])
def test_the_limit_of_metastability_is_an_edge_of_the_histogram(energies):
    edges = _hull_bins(np.array(energies))
    assert np.abs(edges - METASTABLE).min() < 1e-9
    assert edges[0] <= min(energies)
    assert edges[-1] >= max(energies)
    assert len(edges) <= 43
