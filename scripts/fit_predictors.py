"""Fit the regressions of a checkpoint and put them into its folder, a few kB each.

    python scripts/fit_predictors.py --checkpoint mp

Probes of the frozen network, as `probe fit` makes them, of properties that nothing exact measures;
`generate` then predicts its targets with them. Of the crystals of MP-20's training split with a
value at most `--max-labels` are used: errors hardly fall beyond a few thousand, times do. Errors
are printed for held-out formulas of these and for MP-20's test split. A regression that belongs to
other weights is replaced, one that belongs to these is kept.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.table import EMBEDDED, read_table
from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device, weights_hash
from mattergen_lite.probe.fit import Labels, fit
from mattergen_lite.probe.probe import ModelIdentity, Probe

PROPERTIES = (
    PropertyConfig(name="band_gap", unit="eV"),
    PropertyConfig(name="bulk_modulus", unit="GPa", log=True),
    PropertyConfig(name="shear_modulus", unit="GPa", log=True),
    PropertyConfig(name="magnetic_density", unit="µB/Å³"),
    PropertyConfig(name="dielectric_total", log=True),
)


def labelled(table: pa.Table, name: str, split: str, most: int) -> Labels:
    """Crystals of a split with a value, a random choice if there are more than `most`."""
    inside = pc.equal(table["split"].cast(pa.string()), split)
    rows = table.filter(pc.and_(inside, pc.is_valid(table[name])))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most]
    return Labels.from_table(rows.take(pa.array(order.tolist())), name)


def existing(folder: Path, weights: str) -> Probe | None:
    """The regression in a folder, if it belongs to the model."""
    try:
        return Probe.load(folder, weights)
    except ValueError:
        return None


def error_row(probe: Probe, model: CrystalDiffusion, test: Labels) -> str:
    """One line of the table: errors on held-out formulas, and on the test split."""
    crystals = test.crystals.crystals(torch.arange(len(test.crystals)))
    error = (probe.predict(model, crystals) - test.values).abs().mean().item()
    held, prop = probe.held_out, probe.config.prop
    cells = [f"{prop.name} {prop.unit}".ljust(24), f"{probe.config.num_labels:8d}"]
    cells += [f"{held.r2:8.3f}", *(f"{x:10.4g}" for x in (held.mae, error, held.mae_of_mean))]
    return "".join(cells)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mp", help="name or folder")
    names = [prop.name for prop in PROPERTIES]
    parser.add_argument("--properties", nargs="+", choices=names, default=names)
    parser.add_argument("--max-labels", type=int, default=3000, help="of each property")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit what is missing; print the errors of all."""
    choice = parse(arguments)
    folder = find_checkpoint(choice.checkpoint)
    model = CrystalDiffusion.load(folder, pick_device(choice.device))
    weights, table = weights_hash(folder), read_table(EMBEDDED)
    identity = ModelIdentity(checkpoint=folder.name, weights_sha256=weights)
    lines = []
    for prop in (prop for prop in PROPERTIES if prop.name in choice.properties):
        place = folder / "predictors" / prop.name
        probe = existing(place, weights)
        if probe is None:
            labels = labelled(table, prop.name, "train", choice.max_labels)
            probe = fit(model, labels, prop, identity, choice.seed)
            probe.save(place)
        test = labelled(table, prop.name, "test", choice.max_labels)
        lines.append(error_row(probe, model, test))
    header = "".join(h.rjust(10) for h in ("MAE", "test MAE", "of mean"))
    print(f"{'property':24}{'labels':>8}{'R2':>8}{header}", *lines, sep="\n")


if __name__ == "__main__":
    main()
