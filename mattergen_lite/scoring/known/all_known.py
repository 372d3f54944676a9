"""Puts together everything that crystals have to be novel against."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mattergen_lite.io.read import read_structures
from mattergen_lite.scoring.known.compounds import elements_of_experiment
from mattergen_lite.scoring.known.hull import known_compositions
from mattergen_lite.scoring.known.reference import Reference


def known_structures(paths: Sequence[Path]) -> Reference:
    """The embedded known structures and compositions, and structures of further sources.

    Raises:
        ValueError: If one of the sources holds no readable structure.
    """
    own = [Reference.from_records(read_structures(path), name=path.name) for path in paths]
    elements = Reference.from_records(elements_of_experiment(), name="elements of experiment")
    known = Reference.joined([Reference.embedded(), elements, *own])
    return replace(known, compositions=known_compositions())
