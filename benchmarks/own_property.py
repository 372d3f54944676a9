"""Design to a property that no shipped model has seen: hit rates of `steer` and of `finetune`.

    python benchmarks/own_property.py --target 3 --num-samples 128 --finetune-steps 600

A few hundred labels of a column of the embedded table that is no condition of the model play the
user's data. Of crystals of MP-20's training split with a value, `--labels` teach; the judge learns
from the others, of other formulas: a ridge regression on element statistics of the composition,
which shares neither labels nor features with what it judges, and needs no relaxed geometry. A hit
is a sample that the judge places within the relative tolerance of the target. The judge's own
errors, printed with the table, limit what a hit rate can mean; the chance rate is that of
unconditional samples of the same seed. Times are those of one busy core, whatever else the machine
does.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from measuring import report
from torch import Tensor

from mattergen_lite.chemistry.elements import atomic_masses, element_descriptors
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.canonical import write_crystal_table
from mattergen_lite.data.dataset import element_sets
from mattergen_lite.data.labels import read_labelled
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion, pick_device, weights_hash
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.options.request import DEFAULT_CHECKPOINT
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.probe.fit import Labels, fit, standardised
from mattergen_lite.probe.guidance import steering
from mattergen_lite.probe.probe import ModelIdentity, Probe
from mattergen_lite.probe.regression import best_penalty, held_out_predictions, ridge
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import PropertyTarget, parse_targets
from mattergen_lite.request.values import known_property
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.training.finetuning import finetune

Row = dict[str, str | int | float]


def labelled_halves(name: str, num_labels: int, seed: int) -> tuple[pa.Table, pa.Table]:
    """Rows for the user and for the judge: no formula is in both."""
    table = read_crystal_table(EMBEDDED)
    table = table.filter(pc.and_(pc.is_valid(table[name]), pc.equal(table["split"], "train")))
    table = table.take(np.random.default_rng(seed).permutation(len(table)))
    user = table.slice(0, num_labels)
    judge = table.slice(num_labels)
    return user, judge.filter(pc.invert(pc.is_in(judge["formula"], user["formula"])))


def composition_features(crystals: CrystalBatch) -> Tensor:
    """Fractions of the elements; mean, spread, least and greatest of their descriptors. [B, F]"""
    mask = crystals.mask.unsqueeze(-1)
    masses = atomic_masses()[crystals.atomic_numbers].unsqueeze(-1) / 100
    atoms = torch.cat([element_descriptors()[crystals.atomic_numbers], masses], dim=-1)
    mean = mean_over_atoms(atoms, crystals)
    spread = mean_over_atoms((atoms - mean.unsqueeze(1)) ** 2, crystals).sqrt()
    least = atoms.masked_fill(~mask, math.inf).amin(1)
    greatest = atoms.masked_fill(~mask, -math.inf).amax(1)
    one_hot = torch.nn.functional.one_hot(crystals.atomic_numbers, 101).float()
    fractions = mean_over_atoms(one_hot, crystals)
    return torch.cat([fractions, mean, spread, least, greatest], dim=-1)


def mean_over_atoms(values: torch.Tensor, crystals: CrystalBatch) -> torch.Tensor:
    """Mean over the real atoms of each crystal."""
    mask = crystals.mask.unsqueeze(-1)
    return (values * mask).sum(1) / mask.sum(1)


@dataclass(frozen=True)
class Judge:
    """Measures the property from the composition alone."""

    prop: Property
    weight: Tensor
    bias: Tensor
    r2: float  # on held-out formulas, of standardised values
    within: Callable[[float], float]  # share of held-out formulas it places within a tolerance

    def measure(self, crystals: CrystalBatch) -> Tensor:
        """Values in the property's unit. [B]"""
        standard = composition_features(crystals) @ self.weight + self.bias
        return self.prop.within_reason(self.prop.denormalise(standard))


def fit_judge(table: pa.Table, prop: PropertyConfig) -> Judge:
    labels = Labels.from_table(table, prop.name)
    prop = standardised(prop, labels.values)
    definition = Property(**prop.model_dump())
    values = definition.normalise(labels.values)
    features = composition_features(labels.crystals.crystals(torch.arange(len(values))).expand())
    groups = pa.array(labels.formulas).dictionary_encode().indices.to_numpy()
    groups = torch.as_tensor(groups.astype(np.int64))
    predicted = held_out_predictions(features, values, groups)
    r2 = 1 - (predicted - values).square().mean() / values.var()
    measured = definition.denormalise(predicted)
    weight, bias = ridge(features, values, best_penalty(features, values, groups))

    def within(tolerance: float) -> float:
        return hit_rate(measured, labels.values, tolerance)

    return Judge(definition, weight, bias, r2.item(), within)


def hit_rate(measured: Tensor, target: Tensor | float, tolerance: float) -> float:
    """Share within a factor of 1 + tolerance of the target."""
    ratio = (measured.clamp(min=1e-9) / target).log().abs()
    return (ratio <= math.log1p(tolerance)).float().mean().item()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way of asking for the target."""

    method: str
    model: CrystalDiffusion
    target: Target
    guidance: float
    minutes: float  # of preparation: fitting or fine-tuning
    num_labels: int


def run_trial(trial: Trial, judge: Judge, choice: argparse.Namespace) -> Row:
    options = SamplerOptions(steps=choice.steps, batch_size=choice.batch_size)
    start = process_time()
    indices = range(choice.num_samples)
    samples = sample(trial.model, indices, seed=choice.seed, options=options, target=trial.target)
    crystals = samples.crystals
    seconds = process_time() - start
    measured = judge.measure(crystals)
    rate = hit_rate(measured, choice.target, choice.tolerance)
    return {
        "method": trial.method,
        "labels": trial.num_labels,
        "core min": trial.minutes,
        "guidance": trial.guidance,
        "samples": len(crystals),
        "core s/sample": seconds / len(crystals),
        "hit rate": rate,
        "± (1 s.e.)": math.sqrt(rate * (1 - rate) / len(crystals)),
        "10%": measured.quantile(0.1).item(),
        "median": measured.median().item(),
        "90%": measured.quantile(0.9).item(),
        "elements": element_sets(crystals.atomic_numbers).sum(-1).mean().item(),
        "unique": len({tuple(sorted(row)) for row in crystals.atomic_numbers.tolist()})
        / len(crystals),
    }


def ask(prop: Property, guidance: float, choice: argparse.Namespace) -> tuple[PropertyTarget, ...]:
    """The target value of a property, with this guidance."""
    return parse_targets([f"{prop.name}={choice.target}"], [str(guidance)], [prop])


def steering_trials(
    model: CrystalDiffusion, probe: Probe, minutes: float, choice: argparse.Namespace
) -> list[Trial]:
    return [
        Trial(
            method="steer",
            model=model,
            target=Target(
                steering=steering(model, [probe], ask(probe.definition, guidance, choice))
            ),
            guidance=guidance,
            minutes=minutes,
            num_labels=probe.config.num_labels,
        )
        for guidance in choice.guidance
    ]


def finetuned_trials(
    user: pa.Table, prop: PropertyConfig, choice: argparse.Namespace
) -> list[Trial]:
    """Fine-tune through the verb's own functions on the user's table, then ask."""
    with TemporaryDirectory() as folder:
        out, device = Path(folder), pick_device(choice.device)
        splits = pa.array(["val" if i % 7 == 0 else "train" for i in range(len(user))])
        position = user.column_names.index("split")
        write_crystal_table(user.set_column(position, "split", splits), out / "user.parquet")
        base = find_checkpoint(choice.checkpoint)
        start = process_time()
        crystals = read_labelled(out / "user.parquet", prop, keep=out, seed=0, num_workers=1)
        options = FinetuneOptions(steps=choice.finetune_steps, device=choice.device)
        tuned = finetune(base, crystals, out / "run", options)
        minutes = (process_time() - start) / 60
        print(tuned.text())
        model = CrystalDiffusion.load(tuned.folder, device)
    own = known_property(prop.name, model.properties)
    return [
        Trial(
            method="finetune",
            model=model,
            target=Target(properties=ask(own, guidance, choice)),
            guidance=guidance,
            minutes=minutes,
            num_labels=len(user),
        )
        for guidance in choice.guidance
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--property", default="dielectric_electronic", help="embedded column")
    parser.add_argument("--linear", action="store_true", help="learn the value, not its logarithm")
    parser.add_argument("--target", type=float, default=3.0)
    parser.add_argument("--tolerance", type=float, default=0.25, help="relative")
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--num-samples", type=int, default=128)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--finetune-steps", type=int, default=0, help="0: no fine-tuning")
    parser.add_argument("--no-steer", action="store_true")
    parser.add_argument("--steps", type=int, default=50, help="of the sampler")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    if choice.threads:
        torch.set_num_threads(choice.threads)
    device = pick_device(choice.device)
    folder = find_checkpoint(choice.checkpoint)
    model = CrystalDiffusion.load(folder, device)
    prop = PropertyConfig(name=choice.property, log=not choice.linear)
    user, others = labelled_halves(choice.property, choice.labels, choice.seed)
    judge = fit_judge(others, prop)
    trials = [
        Trial(
            method="unconditional",
            model=model,
            target=Target(),
            guidance=0.0,
            minutes=0,
            num_labels=0,
        )
    ]
    if not choice.no_steer:
        start = process_time()
        identity = ModelIdentity(checkpoint=choice.checkpoint, weights_sha256=weights_hash(folder))
        probe = fit(model, Labels.from_table(user, prop.name), prop, identity, choice.seed)
        minutes = (process_time() - start) / 60
        print(probe.text())
        trials += steering_trials(model, probe, minutes, choice)
    if choice.finetune_steps:
        trials += finetuned_trials(user, prop, choice)
    rows = [run_trial(trial, judge, choice) for trial in trials]
    facts = {
        "benchmark": "own_property",
        "property": choice.property,
        "target": choice.target,
        "tolerance": choice.tolerance,
        "judge_labels": len(others),
        "judge_r2": round(judge.r2, 3),
        "judge_within_tolerance": round(judge.within(choice.tolerance), 3),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "weights_sha256": weights_hash(folder)[:12],
    }
    report(rows, facts, choice.json)


if __name__ == "__main__":
    main()
