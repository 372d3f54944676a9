"""Documents on a plain checkout: generated pages are up to date, relative links resolve."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "checkpoints").rglob("*.md")),
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def links(path: Path) -> list[str]:
    found = LINK.findall(CODE.sub("", path.read_text(encoding="utf-8")))
    return [one for one in found if not re.match(r"[a-z]+:|#", one)]


def anchors(path: Path) -> set[str]:
    """Anchors that GitHub makes of the headings of a page."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", one).lower() for one in headings]
    return {re.sub(r"[^\w\- ]", "", one).strip().replace(" ", "-") for one in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve_on_a_plain_checkout(page):
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve()
        is_page = target.suffix == ".md" and target.exists()
        if not target.exists() or (anchor and is_page and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_a_broken_link_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title\n[one](nowhere.md) `[two](x.md)` [three](https://a.b) [four](#x)\n")
    assert links(page) == ["nowhere.md"]
    assert anchors(page) == {"a-title"}


def test_generated_pages_are_up_to_date():
    """`python scripts/docs_pages.py` writes what is in the repository."""
    program = (
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "import docs_pages\n"
        "pages = docs_pages.reference_pages()\n"
        "old = [p.name for p, t in pages.items() if not p.exists() or p.read_text() != t]\n"
        "sys.exit(f'out of date: {old}: run scripts/docs_pages.py' if old else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
