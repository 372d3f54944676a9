"""mattergen_lite: design inorganic crystals on a laptop.

The commands are functions here: `from mattergen_lite import generate, score, train`. `judge` and
`load` give the same in memory. Nothing is imported before it is used.
"""

from importlib import import_module

from mattergen_lite.commands import COMMANDS, IN_MEMORY, module_of

_MODULES = {name: module_of(name) for name in (*COMMANDS, *IN_MEMORY)} | {
    "Budget": "mattergen_lite.options.budget",
    "JudgeOptions": "mattergen_lite.options.judge",
    "Judgements": "mattergen_lite.runs.judgements",
    "Request": "mattergen_lite.options.request",
    "SamplerOptions": "mattergen_lite.options.sampler",
    "ShortlistOptions": "mattergen_lite.options.judge",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
