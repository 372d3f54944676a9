"""Train the template model on the embedded crystals.

    python scripts/train_templates.py --out runs/templates --epochs 10

Writes averaged weights and their configuration into `--out` after every pass over the crystals,
and `state.pt`, from which the same command goes on. Crystals that are or may be in MP-20's test
split are left out; losses are measured on a tenth of the split `val`, which is not trained on.
`--without AB3 AB2` leaves out crystals of such formulas, for `benchmarks/csp.py --templates`.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Composition
from template_training import (
    batches_of_like_length,
    canonical_template,
    losses,
    training_batch,
)

from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import EMBEDDED, UNITS, read_crystal_table
from mattergen_lite.symmetry.columns import ORBIT_TYPES
from mattergen_lite.symmetry.protostructures import positions_of
from mattergen_lite.templates.model import TemplateModel
from mattergen_lite.templates.network import MAX_ATOMS
from mattergen_lite.templates.tokens import Template

BATCH_SIZE, RATE, WARM_UP, AVERAGE = 256, 2e-3, 300, 0.998
MAX_ORBITS, MAX_CLASSES = 24, 8
SHARE_HELD_OUT = 0.1  # of the split val
PARTS = "atoms, element, space group, positions"
LOG = logging.getLogger("train_templates")


@dataclass(frozen=True)
class Examples:
    """Templates with their energies above the hull in eV/atom."""

    templates: list[Template]
    energies: np.ndarray

    def __len__(self) -> int:
        return len(self.templates)

    def take(self, rows: np.ndarray) -> "Examples":
        """Some of them."""
        return Examples([self.templates[row] for row in rows], self.energies[rows])

    def losses(self, model: TemplateModel, rng: np.random.Generator) -> torch.Tensor:
        """Losses by part, in nats a template."""
        batch = training_batch(self.templates, self.energies, rng)
        return torch.stack([*vars(losses(model.network, *batch)).values()])


def read_examples(without: Sequence[str] = ()) -> tuple[Examples, Examples]:
    """Crystals to train on, and those held out, none of the anonymous formulas to leave out."""
    table = read_crystal_table(EMBEDDED, ["split", "num_atoms", *UNITS, *ORBIT_TYPES])
    crystals = OrbitDataset.from_table(table)
    split = np.array(table["split"].to_pylist())
    energies = crystals.columns["e_above_hull"].numpy()
    usable = (
        (crystals.num_orbits.numpy() <= MAX_ORBITS)
        & (crystals.num_atoms.numpy() <= MAX_ATOMS)
        & np.isin(split, ["train", "val", "extra"])
        & np.isfinite(energies)
    )
    rows = np.flatnonzero(usable)
    templates = []
    for row in rows:
        orbits = crystals.orbits(int(row))
        templates.append(
            canonical_template(orbits.space_group, positions_of(orbits), orbits.atomic_numbers)
        )
    held_out = (split[rows] == "val") & (
        np.random.default_rng(0).random(len(rows)) < SHARE_HELD_OUT
    )
    small = np.array(
        [
            len(template.classes) <= MAX_CLASSES and _anonymous_formula(template) not in without
            for template in templates
        ]
    )
    everything = Examples(templates, energies[rows])
    return tuple(everything.take(np.flatnonzero(small & kind)) for kind in (~held_out, held_out))


def _anonymous_formula(template: Template) -> str:
    sizes = {number: orbits.size for number, orbits in enumerate(template.classes, start=1)}
    return Composition(sizes).anonymized_formula


class Training:
    """A run of training that can be interrupted after every pass."""

    def __init__(self, model: TemplateModel, out: Path, num_steps: int) -> None:
        self.model, self.out, self.num_steps = model, out, num_steps
        self.optimizer = torch.optim.AdamW(model.network.parameters(), RATE, weight_decay=0.05)
        parameters = model.network.named_parameters()
        self.average = {name: value.detach().clone() for name, value in parameters}
        self.step = self.epoch = 0
        if (out / "state.pt").exists():
            state = torch.load(out / "state.pt", weights_only=True)
            model.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step, self.epoch = state["average"], state["step"], state["epoch"]

    def pass_over(self, examples: Examples) -> torch.Tensor:
        """Train on all examples once; mean losses by part."""
        rng, sums, count = np.random.default_rng(self.epoch), torch.zeros(4), 0
        lengths = np.array(
            [
                sum(len(orbits.positions) + 1 for orbits in template.classes)
                for template in examples.templates
            ]
        )
        self.model.network.train()
        for rows in batches_of_like_length(lengths, BATCH_SIZE, rng):
            parts = examples.take(rows).losses(self.model, rng)
            self._take_step(parts.sum())
            sums, count = sums + parts.detach(), count + 1
            if count % 100 == 0:
                LOG.info("step %d of %d: %s", self.step, self.num_steps, (sums / count).tolist())
        self.epoch += 1
        return sums / count

    def _take_step(self, loss: torch.Tensor) -> None:
        decay = max(0.01, 1 - self.step / self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1, (self.step + 1) / WARM_UP) * decay
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        share = min(AVERAGE, self.step / (self.step + 10))
        for name, value in self.model.network.named_parameters():
            self.average[name].lerp_(value.detach(), 1 - share)

    def averaged(self) -> TemplateModel:
        """The model with averaged weights."""
        model = TemplateModel.new(**self.model.config.model_dump())
        model.network.load_state_dict(self.average)
        model.network.eval()
        return model

    def save(self) -> None:
        """Write averaged weights and what the next pass needs."""
        self.averaged().save(self.out)
        state = {
            "network": self.model.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "epoch": self.epoch,
        }
        torch.save(state, self.out / "state.pt")


@torch.no_grad()
def evaluate(model: TemplateModel, examples: Examples) -> torch.Tensor:
    """Mean losses by part; what is hidden is the same each time."""
    rng = np.random.default_rng(1)
    parts = np.array_split(np.arange(len(examples)), max(1, len(examples) // BATCH_SIZE))
    return torch.stack([examples.take(rows).losses(model, rng) for rows in parts]).mean(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and log losses after every pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--without", nargs="*", default=[], help="anonymous formulas left out")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--depth", type=int, default=5)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(options.out / "train.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    examples, held_out = read_examples(options.without)
    LOG.info("%d crystals to train on, %d held out", len(examples), len(held_out))
    torch.manual_seed(0)
    model = TemplateModel.new(dim=options.dim, depth=options.depth)
    training = Training(model, options.out, options.epochs * (len(examples) // BATCH_SIZE))
    start = time.time()
    while training.epoch < options.epochs:
        trained = training.pass_over(examples)
        unseen = evaluate(training.averaged(), held_out)
        training.save()
        text = "epoch %d, %.0f s: trained %s, held out %s (%s; nats)"
        seconds = time.time() - start
        LOG.info(text, training.epoch, seconds, trained.tolist(), unseen.tolist(), PARTS)


if __name__ == "__main__":
    main()
