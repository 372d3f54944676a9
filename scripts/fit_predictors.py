"""Fit the predictors of a checkpoint and put them into its folder.

    python scripts/fit_predictors.py --checkpoint mp

Heads (`mattergen_lite.probe.head`) of properties that nothing exact measures;
`generate` then predicts its targets with them. They are fitted to every labelled crystal of the
embedded table that is in none of MP-20's validation and test splits. The errors that go with a
prediction are those on the validation split; on the test split, which decides nothing, they are
printed and put into the model card. All together take some minutes on one core. Published models of
band gaps, trained end to end on the Materials Project, have errors of 0.2 to 0.4 eV.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from fit_head import Examples, fit_head, prediction_error

from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.files.folders import remove
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion, pick_device, weights_hash
from mattergen_lite.probe.head import Head, head_inputs
from mattergen_lite.probe.probe import ModelIdentity
from mattergen_lite.tensors.shapes import Float

PROPERTIES = (
    PropertyConfig(name="band_gap", unit="eV"),
    PropertyConfig(name="bulk_modulus", unit="GPa", log=True),
    PropertyConfig(name="shear_modulus", unit="GPa", log=True),
    PropertyConfig(name="magnetic_density", unit="µB/Å³"),
    PropertyConfig(name="dielectric_total", log=True),
)
SPLITS = {"fitted": ("train", "extra", "unknown"), "held out": ("val",), "test": ("test",)}
USEFUL = 0.8  # of the error of saying the median of every crystal, below which one is kept
HEADS = (
    *("property", "labels", "test R²", "MAE", "test MAE", "new compositions", "where > 0"),
    *("MAE of the median", "test: > 0 or not"),
)
MARKS = "<!-- predictors -->", "<!-- /predictors -->"
PART = 4096  # crystals that are read at once


def labelled(table: pa.Table, names: Sequence[str], splits: Sequence[str], most: int) -> pa.Table:
    """Crystals of some splits with any of the values, a random choice if there are too many."""
    keep = pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits)))
    known = pc.is_valid(table[names[0]])
    for name in names[1:]:
        known = pc.or_(known, pc.is_valid(table[name]))
    table = table.filter(pc.and_(keep, known))
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:most]
    return table.take(pa.array(order.sort().values.tolist()))


def inputs_of(model: CrystalDiffusion, table: pa.Table) -> Float[torch.Tensor, "M I"]:
    """What heads read of every row; similar sizes are read together."""
    crystals = OrbitDataset.from_table(table)
    order = torch.from_numpy(crystals.sort_key().argsort())
    parts = [head_inputs(model, crystals.crystals(part)) for part in order.split(PART)]
    return torch.cat(parts)[order.argsort()]


def examples(
    inputs: Float[torch.Tensor, "M I"], table: pa.Table, name: str, new_to: pa.Table | None = None
) -> Examples:
    """The rows that have a value.

    Args:
        inputs: Of all rows.
        table: With the values.
        name: Of the property.
        new_to: Only rows whose composition none of these crystals has.
    """
    known = table[name].is_valid()
    if new_to is not None:
        known = pc.and_(known, pc.invert(pc.is_in(table["formula"], new_to["formula"].unique())))
    chosen = torch.from_numpy(known.to_numpy().copy())
    values = torch.tensor(table[name].filter(known).to_pylist(), dtype=torch.float32)
    return Examples(inputs=inputs[chosen], values=values)


def existing(folder: Path, weights: str) -> Head | None:
    """The head in a folder, if it belongs to the model."""
    try:
        return Head.load(folder, weights)
    except ValueError:
        return None


def figures(head: Head, test: Examples, new: Examples) -> list[str]:
    """Cells of the table: errors on the validation and on the test split.

    Args:
        head: Fitted.
        test: The test split.
        new: Those of it whose composition no fitted crystal has.
    """
    held, prop = head.config.held_out, head.config.prop
    error, on_new = (
        prediction_error(head, held_out, torch.tensor(0.0)) for held_out in (test, new)
    )
    digits = [
        f"{value:.3g}"
        for value in (held.mae, error.mae, on_new.mae, error.mae_positive, held.mae_of_median)
    ]
    return [
        f"{prop.name.replace('_', ' ')}, {prop.unit}".removesuffix(", "),
        f"{head.config.num_labels:,}",
        f"{error.r2:.3f}",
        *digits,
        "" if error.accuracy is None else f"{error.accuracy:.1%}",
    ]


def is_useful(head: Head) -> bool:
    """Whether it is clearly better than saying the same of every crystal."""
    held = head.config.held_out
    return held.mae < USEFUL * held.mae_of_median


def write_card(card: Path, lines: Sequence[str]) -> None:
    """Put the table between its marks in a model card, if the card has them."""
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    start, end = (text.find(mark) for mark in MARKS)
    if 0 <= start < end:
        inside = "\n".join([MARKS[0], *lines, ""])
        card.write_text(text[:start] + inside + text[end:], encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mp", help="name or folder")
    names = [prop.name for prop in PROPERTIES]
    parser.add_argument("--properties", nargs="+", choices=names, default=names)
    parser.add_argument("--max-crystals", type=int, default=10**6, help="of each split")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


class Splits:
    """Labelled crystals by what they are for; what predictors read of them is worked out once."""

    def __init__(self, model: CrystalDiffusion, names: Sequence[str], most: int) -> None:
        table = read_crystal_table(EMBEDDED)
        self.model = model
        self.tables = {
            part: labelled(table, names, splits, most) for part, splits in SPLITS.items()
        }
        self.inputs: dict[str, Float[torch.Tensor, "M I"]] = {}

    def examples(self, part: str, name: str, *, new: bool = False) -> Examples:
        """Crystals of a part with a value; on request only those of compositions not fitted."""
        if part not in self.inputs:
            self.inputs[part] = inputs_of(self.model, self.tables[part])
        fitted = self.tables["fitted"] if new else None
        return examples(self.inputs[part], self.tables[part], name, fitted)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit what is missing; print the errors of all."""
    choice = parse(arguments)
    folder = find_checkpoint(choice.checkpoint)
    model = CrystalDiffusion.load(folder, pick_device(choice.device))
    weights = weights_hash(folder)
    identity = ModelIdentity(checkpoint=folder.name, weights_sha256=weights)
    splits = Splits(model, choice.properties, choice.max_crystals)
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    print("\n".join(lines), flush=True)
    for prop in (prop for prop in PROPERTIES if prop.name in choice.properties):
        place = folder / "predictors" / prop.name
        head = existing(place, weights)
        if head is None:
            remove(folder / "predictors", [prop.name])
            fitted, held_out = (splits.examples(part, prop.name) for part in list(SPLITS)[:2])
            head = fit_head(fitted, held_out, prop, identity, choice.seed)
        test = [splits.examples("test", prop.name, new=new) for new in (False, True)]
        line = f"| {' | '.join(figures(head, *test))} |"
        if is_useful(head):
            head.save(place)
            lines.append(line)
        else:
            line += " not kept: hardly better than the median"
        print(line, flush=True)
    write_card(folder / "model_card.md", lines)


if __name__ == "__main__":
    main()
