"""Samples of a model that knows no symmetry, for the judge: what are orbits worth?

    python scripts/build_training_data.py --without-symmetry embedded --out p1.parquet
    mattergen-lite train configs/mp.yaml data.path=p1.parquet data.symmetry_dropout=0 \
        data.max_atoms=20 run_dir=runs/p1
    python benchmarks/without_symmetry.py --checkpoint runs/p1/model --out p1.extxyz
    mattergen-lite score p1.extxyz --out p1/

Every sample takes the cell contents of a known crystal as `generate` does: how many atoms, and
which of them hold the same element. Symmetry it is not told: each atom is an orbit of P1. It starts
from all noise on templates drawn without a bias, so `generate --strength 1 --template-bias 0` makes
what to compare with.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from mattergen_lite.data.subgroup_augmentation import without_symmetry
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.model import CrystalDiffusion, pick_device
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystal
from mattergen_lite.sampling.generator import stable
from mattergen_lite.sampling.sampler import Target, sample_batch, starting_points


def flattened(partial_crystal: PartialCrystal) -> PartialCrystal:
    """The same cell contents, every atom an orbit of its own."""
    orbits = without_symmetry(partial_crystal.orbits)
    count = len(orbits.multiplicities)
    return replace(partial_crystal, orbits=orbits, elements=(0,) * count, known=(False,) * count)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--num-samples", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="an extxyz file")
    choice = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = CrystalDiffusion.load(find_checkpoint(choice.checkpoint), pick_device(choice.device))
    options = SamplerOptions(strength=1.0, template_bias=0.0)
    target = Target(auxiliary_targets=stable(model, (), Request().stability_guidance))
    starts = starting_points(
        model, range(choice.num_samples), seed=choice.seed, target=target, options=options
    )
    starts = replace(
        starts,
        partial_crystals=[
            flattened(partial_crystal) for partial_crystal in starts.partial_crystals
        ],
    )
    structures = []
    for part in tqdm(torch.arange(choice.num_samples).split(options.batch_size)):
        *_, crystals = sample_batch(model, starts[part], options, target)
        structures += to_structures(crystals.to("cpu").expand())
    names = [{"name": f"{number:06d}"} for number in range(len(structures))]
    write_extxyz(structures, choice.out, names)


if __name__ == "__main__":
    main()
