"""Pictures of a real run's report for the documentation, as a browser shows it.

    mattergen-lite generate --num-samples 6 --num-atoms 2..8 --no-relax --out run
    python scripts/screenshots.py run --out docs/images

Writes report.png and report_crystal.png (the best crystal opened), 1400 pixels wide. Needs
Chromium; nothing is loaded from the network.
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


def first_name(page: Path) -> str:
    """Name of the best crystal of a report."""
    text = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1]
    data = json.loads(text)
    return str(data["rows"][0][data["columns"].index("name")])


def shoot(browser: str, address: str, size: str, picture: Path) -> None:
    """Take one picture, with a profile of its own that is thrown away."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--hide-scrollbars", "--timeout=5000"),
                *(f"--user-data-dir={profile}", f"--window-size={size}"),
                *(f"--screenshot={picture}", address),
            ],
            check=True,
            capture_output=True,
            timeout=180,
        )


def main() -> None:
    """Take both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    choice = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    page = (choice.run / "report.html").resolve()
    if browser is None or not page.exists():
        parser.error(f"expected {page} and one of {', '.join(BROWSERS)}")
    crystal = f"{page.as_uri()}#{quote(first_name(page))}"
    out = choice.out.resolve()
    shoot(browser, page.as_uri(), SIZE, out / "report.png")
    shoot(browser, crystal, SIZE, out / "report_crystal.png")


if __name__ == "__main__":
    main()
