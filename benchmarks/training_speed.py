"""Training speed: samples per second of the very trainer that `mattergen-lite train` builds.

    python benchmarks/training_speed.py --config configs/mp_20.yaml --steps 32 --batch-size 128

Steps are timed one by one after a warm-up. Batches hold crystals of similar size, so steps differ
in cost: "ms/step" is the median, rates are totals, and a multiple of data.pool_batches steps sees
every size. "data" is the share of time spent building batches, "compute" that of forward, backward,
optimiser and weight averaging, "other" what Lightning does in between. "fill" is the share of atom
slots that hold an atom. "MFLOP" is per sample, forward and backward, padding included.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytorch_lightning as pl
import torch
from measuring import Row, count_flops, device_facts, measured_peak, network_dtype, now, report
from torch.utils.data import DataLoader, IterableDataset

from mattergen_lite.config import RunConfig
from mattergen_lite.data.dataset import LabelledBatch
from mattergen_lite.training.datamodule import CrystalDataModule
from mattergen_lite.training.module import TrainingModule, drawn_losses
from mattergen_lite.training.trainer import build_trainer, fit_statistics, reduced_views


@dataclass(frozen=True)
class StepTimes:
    """When steps began and ended, how long their data took, what they worked on."""

    data: list[float] = field(default_factory=list)  # s to build a batch
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)  # crystals, atom slots
    num_orbits: list[int] = field(default_factory=list)

    def after(self, warmup: int) -> "StepTimes":
        """The record without its first steps."""
        return StepTimes(**{name: values[warmup:] for name, values in vars(self).items()})

    def periods(self) -> list[float]:
        """Seconds from the start of a step to the start of the next."""
        return [later - start for start, later in pairwise(self.starts)]

    def compute(self) -> list[float]:
        """Seconds of each step, its batch at hand."""
        return [end - start for start, end in zip(self.starts, self.ends, strict=True)]


class StepClock(pl.Callback):
    """Keeps the times of a training run; to come after all other callbacks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times = StepTimes()

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: LabelledBatch, batch_idx: int
    ) -> None:
        """Note the beginning of a step and what it works on."""
        mask = batch.crystals.templates.mask
        self.times.shapes.append((mask.shape[0], mask.shape[1]))
        self.times.num_orbits.append(int(mask.sum()))
        self.times.starts.append(now(self.device))

    def on_train_batch_end(self, *_: object) -> None:
        """Note the end of a step, weight averaging included."""
        self.times.ends.append(now(self.device))

    def timed(self, batches: Iterable[LabelledBatch]) -> Iterator[LabelledBatch]:
        """The same batches; notes how long each took to build."""
        iterator = iter(batches)
        while True:
            start = now(self.device)
            batch = next(iterator)
            self.times.data.append(now(self.device) - start)
            yield batch


@dataclass(frozen=True)
class TimedStream(IterableDataset):
    """An endless stream of batches, read by the clock."""

    stream: IterableDataset
    clock: StepClock

    def __iter__(self) -> Iterator[LabelledBatch]:
        return self.clock.timed(self.stream)


class TimedData(CrystalDataModule):
    """The training data, its loading timed."""

    clock: StepClock

    def train_dataloader(self) -> DataLoader:
        """The usual batches through the clock."""
        stream = super().train_dataloader().dataset
        return DataLoader(TimedStream(stream, self.clock), batch_size=None)


def configure(choice: argparse.Namespace, batch_size: int | None, run_dir: Path) -> RunConfig:
    """The configuration with this benchmark's limits; what it writes goes to a temporary folder."""
    steps = choice.warmup + choice.steps + 1  # one more: a step lasts until the next
    overrides = [
        *choice.override,
        f"run_dir={run_dir}",
        f"optimizer.max_steps={steps}",
        f"trainer.val_every={steps + 1}",
        "trainer.devices=1",
        "trainer.num_nodes=1",
    ]
    if choice.device is not None:
        overrides.append(f"trainer.accelerator={choice.device}")
    if choice.threads:
        overrides.append(f"trainer.threads={choice.threads}")
    if batch_size:
        overrides.append(f"data.batch_size={batch_size}")
    return RunConfig.load([choice.config], overrides)


def train(config: RunConfig) -> tuple[TrainingModule, TimedData]:
    """What `mattergen_lite.training.trainer.train` does, with clocks and without the export."""
    pl.seed_everything(config.seed, verbose=False)
    config = config.model_copy(update={"model": fit_statistics(config)})
    module, trainer = TrainingModule(config), build_trainer(config)
    views = reduced_views(config)
    data = TimedData(config.data, module.model.properties, config.seed, views)
    module.model.fit(data.train)
    data.clock = StepClock(trainer.strategy.root_device)
    trainer.callbacks.append(data.clock)
    trainer.fit(module, data)
    return module, data


def sample_flops(module: TrainingModule, data: TimedData, width: int) -> int:
    """FLOPs of one crystal in a batch of this width, forward and backward."""
    crystal = torch.nonzero(data.train.num_orbits == width)[0]
    batch = data.train.batch(crystal, module.model.properties).to(module.device)
    rng = torch.Generator(module.device).manual_seed(0)

    def losses() -> None:
        parts = drawn_losses(module.model, batch.crystals, batch.conditions, rng)
        sum(vars(parts).values()).sum().backward()

    return count_flops(losses)


def summarise(
    module: TrainingModule, data: TimedData, times: StepTimes, peak: float
) -> dict[str, int | float]:
    """One row of the table; the last step has no next one to be timed against."""
    flops = {width: sample_flops(module, data, width) for width in {w for _, w in times.shapes}}
    periods, shapes = times.periods(), times.shapes[:-1]
    seconds, samples = sum(periods), sum(crystals for crystals, _ in shapes)
    work = sum(crystals * flops[width] for crystals, width in shapes)
    in_data, in_compute = (sum(part[:-1]) / seconds for part in (times.data, times.compute()))
    slots = sum(crystals * width for crystals, width in shapes)
    return {
        "batch": shapes[0][0],
        "steps": len(shapes),
        "ms/step": 1000 * statistics.median(periods),
        "samples/s": samples / seconds,
        "MFLOP": work / samples / 1e6,
        "GFLOP/s": work / seconds / 1e9,
        "of peak": work / seconds / peak,
        "data": in_data,
        "compute": in_compute,
        "other": max(1 - in_data - in_compute, 0.0),
        "fill": sum(times.num_orbits[:-1]) / slots,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/mp_20.yaml"))
    parser.add_argument("--override", nargs="+", default=[], help="such as trainer.compile=true")
    parser.add_argument("--device", help="Lightning accelerator: cpu, gpu; default: the config's")
    parser.add_argument("--steps", type=int, default=32, help="steps that are timed")
    parser.add_argument("--warmup", type=int, default=5, help="steps before those")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[None], help="one row each")
    parser.add_argument("--threads", type=int, help="CPU threads; default: the config's")
    parser.add_argument("--peak-size", type=int, help="rows of the matrix that sets the peak")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def benchmark(
    choice: argparse.Namespace, batch_size: int | None
) -> tuple[dict[str, int | float], Row]:
    """Train for a few steps: a row of the table, and where it was measured."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(choice, batch_size, Path(folder))
        if config.trainer.threads:
            torch.set_num_threads(config.trainer.threads)
        module, data = train(config)
    dtype = network_dtype(module.model)
    peak = measured_peak(data.clock.device, dtype, choice.peak_size)
    row = summarise(module, data, data.clock.times.after(choice.warmup), peak)
    return row, device_facts(data.clock.device, dtype, peak)


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    results = [benchmark(choice, batch_size) for batch_size in choice.batch_size]
    facts = {"benchmark": "training", "config": choice.config.name, **results[-1][1]}
    report([row for row, _ in results], facts, choice.json)


if __name__ == "__main__":
    main()
