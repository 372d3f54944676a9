"""The commands, one a file or group: a function's signature and docstring are its help text.

Slow imports happen inside the functions, so that `--help` stays instant.
"""

# In the order of the help. What is before an underscore is a group: `data_info` is `data info`.
COMMANDS = (
    "generate",
    "predict",
    "complete",
    "score",
    "verify",
    "benchmark",
    "discover",
    "train",
    "finetune",
    "probe_fit",
    "calibrate",
    "data_prepare",
    "data_info",
    "data_show",
    "data_elements",
    "campaign_run",
    "campaign_work",
    "campaign_status",
    "campaign_report",
    "library_export",
    "library_import",
)
JUDGING = ("generate", "score", "verify", "campaign_report")  # give judged crystals
IN_MEMORY = ("judge", "load", "sample")  # functions of Python that are no commands


def module_of(name: str) -> str:
    """Module of a command: that of its group, if it has one."""
    return f"{__name__}.{name.partition('_')[0]}"
