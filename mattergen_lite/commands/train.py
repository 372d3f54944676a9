"""The command `train`."""

from functools import partial
from pathlib import Path
from typing import Literal

from mattergen_lite.commands.workspace import configuration
from mattergen_lite.files.folders import claimed, is_first_process
from mattergen_lite.options.flat import flat


@flat
def train(
    *settings: str,
    max_time: str | None = None,
    select: Literal["last", "loss", "sun"] | None = None,
) -> Path:
    """Train a model, or continue the run that its run_dir already holds.

    Args:
        settings: Configuration files, merged left to right, then overrides such as
            trainer.devices=4 or run_dir=runs/a. A file is looked for on disk, then among the
            shipped configurations.
        max_time: DD:HH:MM:SS after which this launch stops; the same command then continues.
        select: Which weights to keep: the last (default), those of the lowest validation loss, or
            those with the most samples that are credible, metastable, unique and novel. The last
            samples and judges trainer.select_samples crystals at each validation: a minute or two
            on two cores.

    Returns:
        The exported model folder, which `generate --checkpoint` takes.

    Raises:
        ValueError: For an unknown key, a bad value or an unusable dataset.
    """
    from mattergen_lite.config import RunConfig

    files = [configuration(text) for text in settings if "=" not in text]
    overrides = [text for text in settings if "=" in text]
    if max_time is not None:
        overrides.append(f"trainer.max_time='{max_time}'")
    if select is not None:
        overrides.append(f"trainer.select={select}")
    config = RunConfig.load(files, overrides)
    from mattergen_lite.training.trainer import train as run

    with claimed(config.run_dir if is_first_process() else None):
        if config.trainer.select != "sun":
            return run(config)  # needs no more than a bare training node has
        from mattergen_lite.training.selection import expected_credible_msun

        return run(
            config, partial(expected_credible_msun, num_samples=config.trainer.select_samples)
        )
