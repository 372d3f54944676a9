"""mattergen_lite: design inorganic crystals on a laptop.

The command line's verbs are functions here: `from mattergen_lite import generate, score, train`.
Nothing is imported before it is used.
"""

from importlib import import_module

from mattergen_lite.verbs import VERBS

__all__ = list(VERBS)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mattergen_lite.verbs.{name}"), name)
