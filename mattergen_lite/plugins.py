"""Imports objects of installed modules by name, for engines and potentials of a user's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from mattergen_lite.processes import without_current_folder


def import_object(name: str) -> object:
    """Import what module:attribute names; the current folder is no part of Python's path.

    Raises:
        ValueError: If the module is not installed, breaks on the way, or lacks the attribute.
    """
    module, _, attribute = name.partition(":")
    package = module.partition(".")[0]
    with without_current_folder():
        if not package or package == "__main__" or find_spec(package) is None:
            raise ValueError(
                f"no installed module {module!r} for {name!r}: expected module:attribute of one on "
                "Python's path, of which the current folder is no part"
            )
        with as_value_error(f"cannot import {name!r}"):
            value = getattr(import_module(module), attribute, None)
    if value is None:
        raise ValueError(f"module {module!r} has no {attribute!r}: expected a function or object")
    return value


@contextmanager
def as_value_error(problem: str) -> Iterator[None]:
    """Raise whatever goes wrong in the code of another package as one line.

    Raises:
        ValueError: With the problem, and the kind and message of the error.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{problem}: {type(error).__name__}: {str(error)[:300]}") from error
