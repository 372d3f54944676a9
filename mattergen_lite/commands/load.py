"""The function `load`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements


def load(folder: Path | str, /) -> "Judgements":
    """Read the judgements of a finished run of `generate`, `score` or `Judgements.save`.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If it holds no finished run, or is damaged.
    """
    from mattergen_lite.runs.judgements import Judgements

    return Judgements.load(folder)
