"""Takes pictures of a run's report for the documentation, as a browser shows it.

    mattergen-lite generate --num-candidates 16 --out results
    python scripts/screenshots.py results --out docs/images --crystal 000081 \
        --names 000027,000081,000003,000108,000109,000085

Writes report.png (the first screen), report_crystal.png (a crystal opened, the best unless
--crystal names another) and gallery.png (six crystals in their conventional cells, with
polyhedra). Needs Chromium; nothing is loaded from the network.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = "1400,760"  # pixels
GALLERY_SIZE = "1400,726"
NUM_SHOWN = 6
# Replaces the page by six of its crystals. `Viewer`, `el` and the others are those of the page.
GALLERY = """
const names = NAMES;
const grid = el("div", {});
grid.style = "display:grid;grid-template-columns:repeat(3,1fr);gap:10px;padding:14px";
document.body.replaceChildren(grid);
for (const row of allRows.filter((one) => names.includes(cell(one, "name")))) {
  const canvas = el("canvas", {});
  canvas.style = "height:270px;background:none";
  const [energy, error] = ["", "_std"].map((end) => fixed(cell(row, `e_above_hull${end}`), 3));
  const group = cell(row, "relaxed_space_group_symbol") ?? cell(row, "space_group_symbol");
  grid.append(el("div", { className: "card" }, canvas,
    el("strong", {}, ...formulaNodes(cell(row, "formula"))), "  ", ...symbolNodes(group),
    el("div", { className: "quiet" }, `${energy} ± ${error} eV/atom above the hull`)));
  const { relaxed, raw } = structuresOf(row);
  const drawn = new Viewer(canvas, () => {});
  drawn.show((relaxed ?? raw).conventional ?? relaxed ?? raw);
  drawn.set({ polyhedra: true });
}
"""


def rows_of(page: Path) -> list[dict]:
    """The table of a report."""
    text = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1]
    data = json.loads(text)
    return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def gallery_page(page: Path, names: list[str]) -> str:
    """A copy of a report that shows some of its crystals only."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<meta http-equiv[^\n]*\n", "", text)  # the policy forbids a further script
    script = GALLERY.replace("NAMES", json.dumps(names))
    return text.replace("</body>", f"<script>{{{script}}}</script></body>")


def shoot(browser: str, address: str, size: str, picture: Path) -> None:
    """Take one picture, with a profile of its own that is thrown away."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--hide-scrollbars"),
                "--virtual-time-budget=8000",  # time of the page, however busy the machine
                *(f"--user-data-dir={profile}", f"--window-size={size}"),
                *(f"--screenshot={picture}", address),
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )


def main() -> None:
    """Take all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--crystal", help="name of the crystal to open; default the best")
    parser.add_argument("--names", help="of the gallery, joined by commas; default the best six")
    choice = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    page = (choice.run / "report.html").resolve()
    if browser is None or not page.exists():
        parser.error(f"expected {page} and one of {', '.join(BROWSERS)}")
    best = [str(row["name"]) for row in rows_of(page)]
    names = choice.names.split(",") if choice.names else best[:NUM_SHOWN]
    crystal = f"{page.as_uri()}#{quote(choice.crystal or best[0])}"
    out = choice.out.resolve()
    shoot(browser, page.as_uri(), SIZE, out / "report.png")
    shoot(browser, crystal, SIZE, out / "report_crystal.png")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "gallery.html"
        copy.write_text(gallery_page(page, names), encoding="utf-8")
        shoot(browser, copy.as_uri(), GALLERY_SIZE, out / "gallery.png")


if __name__ == "__main__":
    main()
