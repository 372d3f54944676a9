"""Options of verification by first principles, and of its cost."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mattergen_lite.options.checks import Count, Minutes, options
from mattergen_lite.options.texts import Words

RunSource = Any  # folder of a run; in Python also judgements


@options
class VerifyOptions:
    """Number, cost and cache of verifications.

    Attributes:
        top: How many of the best to verify. Those that cannot be calculated get an error in their
            row, and the next best is taken.
        names: Verify these instead, as in column name, joined by commas; those that were not
            relaxed are taken as they are.
        relax: Relax each by DFT, cell and positions within the symmetry; 3 to 18 times the cost.
        engine: gpaw, or module:Class of an installed module that is an engine.
        max_minutes: Largest estimate of a crystal, in core minutes.
        time_budget: Minutes after which no further crystal is started.
        memory: GiB that a calculation may take.
        cache: Folder of results that runs share; default ~/.cache/mattergen_lite/dft.
    """

    top: Count = 4
    names: Words | None = None
    relax: bool = False
    engine: str = "gpaw"
    max_minutes: Minutes = 60.0
    time_budget: Minutes | None = None
    memory: Annotated[float, Field(ge=0.5, le=4096)] = 8.0
    cache: Path | None = None
