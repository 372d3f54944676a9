"""Writes the averaged weights of a run as a model folder, with a card and learning curves."""

import csv
import platform
from pathlib import Path
from zipfile import is_zipfile

import pytorch_lightning as pl
import torch

from mattergen_lite.config import RunConfig
from mattergen_lite.training.callbacks import BEST
from mattergen_lite.training.module import TrainingModule

LAST = "last.ckpt"


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The newest of `last.ckpt` and what Lightning saved on a cluster's requeue signal.

    Raises:
        ValueError: If it is damaged.
    """
    candidates = [*run_dir.glob("hpc_ckpt_*.ckpt"), *run_dir.glob(LAST)]
    newest = max(candidates, key=lambda path: path.stat().st_mtime, default=None)
    if newest is not None and not is_zipfile(newest):  # what torch.save writes
        raise ValueError(f"cannot go on from {newest}: it is damaged; remove it to begin anew")
    return newest


def export_model(
    trainer: pl.Trainer, module: TrainingModule, config: RunConfig, seconds: float
) -> None:
    """Write the averaged weights as a model folder and draw the learning curves."""
    folder = config.run_dir / "model"
    best = config.run_dir / BEST
    kept = best if config.trainer.select != "last" and best.exists() else None
    # From disk: if nothing was left to train, those in memory have not been averaged.
    averaged = kept or newest_checkpoint(config.run_dir)
    if averaged is not None:
        module.load_state_dict(torch.load(averaged, weights_only=True)["state_dict"])
    module.model.save(folder)
    (folder / "model_card.md").write_text(model_card(trainer, config, seconds))
    _plot_curves(config.run_dir)


def model_card(trainer: pl.Trainer, config: RunConfig, seconds: float) -> str:
    """What a stranger must know of the weights; `benchmarks/model_card.py` adds the metrics."""
    device = trainer.strategy.root_device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    batch = config.data.batch_size * trainer.world_size
    count = sum(config.model.atom_count_histogram)
    largest = f"{config.model.max_orbits} orbits and {config.model.max_atoms}"
    facts = {
        "data": f"{config.data.path}, splits {', '.join(config.data.train_splits)}",
        "data SHA-256": config.model.data_sha256,
        "crystals": f"{count:,} of up to {largest} atoms",
        "steps": f"{trainer.global_step:,} of {batch} crystals",
        "last launch": f"{seconds / 60:.1f} minutes on {trainer.world_size} x {hardware}",
        "conditions": ", ".join(prop.name for prop in config.model.properties) or "none",
        "weights": f"averaged, decay {config.optimizer.ema_decay}, started from {config.init_from}",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    lines = [f"# {config.run_dir.name}", "", "| | |", "|---|---|", *rows, ""]
    return "\n".join([*lines, "<!-- metrics -->", "<!-- /metrics -->", ""])


def read_metrics(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged series of a run, over all its launches, as (step, value) pairs."""
    series: dict[str, dict[int, float]] = {}
    for file in sorted(
        run_dir.glob("logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime
    ):
        for row in csv.DictReader(file.open()):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    series.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(values.items()) for name, values in series.items()}


def _plot_curves(run_dir: Path) -> None:
    """Draw training and validation losses of a run into `curves.png`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:  # a bare training node: the CSV has everything
        return
    series = read_metrics(run_dir)
    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, name in zip(panels, ("total", "types", "coords", "lattice"), strict=True):
        for stage in ("train", "val"):
            if points := series.get(f"{stage}/{name}"):
                panel.plot(
                    *zip(*points, strict=True), label=stage, linewidth=1 if stage == "train" else 2
                )
        panel.set(title=name, xlabel="step", yscale="log")
    panels[0].legend()
    figure.savefig(run_dir / "curves.png", dpi=150)
