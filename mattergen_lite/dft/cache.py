"""Results of calculations that are kept: one JSON file each, and those shipped with the package."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from mattergen_lite.dft.result import DftResult
from mattergen_lite.files.folders import held

PACKAGED = "dft_phases.json"
FOLDER = "MATTERGEN_LITE_CACHE"  # variable that names another folder than ~/.cache/mattergen_lite


def default_folder() -> Path:
    """Folder of a user's results, shared by all runs."""
    base = os.environ.get(FOLDER) or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mattergen_lite" / "dft"


@cache
def packaged_results() -> dict[str, DftResult]:
    """Results of known phases that this package ships, by key.

    Raises:
        ValueError: If the file is damaged.
    """
    with as_file(files("mattergen_lite") / "assets" / PACKAGED) as path:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: DftResult.of(row) for key, row in rows.items()}


@dataclass(frozen=True)
class ResultFolder:
    """Results by key, in a folder that several processes may use at once."""

    path: Path  # made when the first result is written

    def lookup(self, key: str) -> DftResult | None:
        """Return a result that exists already; None without one, or where it is damaged."""
        if (shipped := packaged_results().get(key)) is not None:
            return shipped
        try:
            result = DftResult.read(self.file(key))
        except ValueError:
            return None
        # What failed may have lacked memory, time or a program: it is tried again.
        return result if result.error is None else None

    def file(self, key: str) -> Path:
        """Path of a result."""
        return self.path / f"{key}.json"

    def obtain(self, key: str, calculate: Callable[[Path], DftResult]) -> DftResult:
        """Look a result up or calculate it; processes that want the same one wait."""
        if (known := self.lookup(key)) is not None:
            return known
        with held(self.path / f".{key}.lock", waits=True):
            return self.lookup(key) or calculate(self.file(key))

    def claim(self, key: str, *, waits: bool) -> AbstractContextManager[bool]:
        """Hold a crystal, so that processes of one run take different ones; yields whether."""
        return held(self.path / f".{key}.claim", waits=waits)
