"""mattergen_lite: design inorganic crystals on a laptop.

The command line's verbs are functions here: `from mattergen_lite import generate, score, train`.
Nothing is imported before it is used.
"""

__all__ = [
    "benchmark",
    "campaign_report",
    "campaign_run",
    "campaign_status",
    "data_info",
    "data_prepare",
    "discover",
    "finetune",
    "generate",
    "library_export",
    "library_import",
    "score",
    "steer",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mattergen_lite.verbs import commands as verbs

    return getattr(verbs, name)
