"""Finds the folder of a model: on disk, shipped, or hf:org/name@COMMIT of the Hugging Face Hub.

The commit is part of the name, so that nobody can exchange the model behind it. Files are YAML and
safetensors, which hold no code; nothing else is fetched.
"""

import re
from pathlib import Path

from mattergen_lite.config import ModelConfig, read_yaml, shipped
from mattergen_lite.files.folders import check_plain

WEIGHTS = "weights.safetensors"
CONFIG = "config.yaml"
PREFIX = "hf:"
FILES = (
    CONFIG,
    WEIGHTS,
    "model_card.md",
    "predictors/*/head.yaml",
    "predictors/*/probe.yaml",
    "predictors/*/probe.safetensors",
    "predictors/*/head.safetensors",
    "hit_rates.json",
)
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"hf:(?P<repository>{_PART}/{_PART})@(?P<commit>[0-9a-f]{{40}})")


def is_hub_name(name: str) -> bool:
    """Whether a name is one of the hub, well-formed or not."""
    return name.startswith(PREFIX)


def download(name: str) -> Path:
    """Folder of a model of the hub, from its cache if it is there.

    Raises:
        ValueError: If the name names no commit, the client is not installed or the hub has no such
            model.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name[:200]!r}: expected hf:organisation/model@commit, with the 40 hexadecimal "
            "digits of a commit, which the model's page lists under Files, History"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"{name} needs huggingface_hub: expected `pip install '.[hub]'` in the source folder"
        ) from None
    try:
        folder = snapshot_download(
            match["repository"], revision=match["commit"], allow_patterns=list(FILES)
        )
    except Exception as error:  # of the client, the server or the network between
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot fetch {name}: {type(error).__name__}: {reason}") from None
    return Path(folder)


def find_checkpoint(name: str) -> Path:
    """Folder of a model given by path, by the name of a shipped one or by one of the hub.

    Raises:
        ValueError: If there is none, or it holds a pipe; the message lists what is shipped.
    """
    if is_hub_name(name):
        return download(name)
    for folder in (Path(name), shipped("checkpoints") / name):
        if (folder / CONFIG).exists():
            check_plain(folder)
            return folder
    known = ", ".join(
        sorted(path.parent.name for path in shipped("checkpoints").glob(f"*/{CONFIG}"))
    )
    raise ValueError(
        f"no model {name!r}: expected a folder with {CONFIG} and {WEIGHTS}, one of {known}, or "
        "hf:organisation/model@commit"
    )


def read_config(folder: Path) -> ModelConfig:
    """Configuration of a model folder.

    Raises:
        ValueError: If it is missing or not a model's.
    """
    return ModelConfig.parse(read_yaml(folder / CONFIG))
