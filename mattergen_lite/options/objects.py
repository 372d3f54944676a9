"""Objects of Python for options that are texts on the command line.

generate(condition={"band_gap": (1.5, 2.5)}, elements=["Li", "O"], num_atoms=range(4, 9))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, get_args, get_origin


def as_option(value: object, annotation: object) -> object:
    """The value as an option takes it: as text or a path where it takes such, lists as tuples.

    Args:
        value: What was passed.
        annotation: Type of the option. Text takes a number, a range of whole numbers, both ends of
            which count, or a list; several texts take one text or number, or a mapping of names to
            values or to (low, high).
    """
    if get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    several = get_origin(annotation) in (tuple, Sequence)
    if annotation is str or str in get_args(annotation):
        return _as_texts(value) if several else _as_text(value)
    if annotation is Path or Path in get_args(annotation):
        return _as_paths(value, several=several)
    return value


def _as_paths(value: object, *, several: bool) -> object:
    """Text as a path, and one path as several where the option takes several."""
    if several and isinstance(value, list | tuple):
        return tuple(Path(one) if isinstance(one, str) else one for one in value)
    path = Path(value) if isinstance(value, str) else value
    return (path,) if several and isinstance(path, Path) else path


def _as_text(value: object) -> object:
    """A number, range or list of texts as text; all else as it is."""
    if isinstance(value, range):
        return f"{value[0]}..{value[-1]}" if value and abs(value.step) == 1 else value
    if isinstance(value, Path | int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        return ",".join(map(str, value))
    return value


def _as_texts(value: object) -> object:
    """One text or number, or what a mapping says of each name, as several texts."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={_interval(one)}" for name, one in value.items())
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return (str(value),)
    return tuple(value) if isinstance(value, list) else value


def _interval(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return f"{value[0]}..{value[1]}"
    return str(value)
