"""Small models for tests."""

import torch

from mattergen_lite.config import ModelConfig, NetworkConfig, PropertyConfig
from mattergen_lite.crystal import CrystalBatch
from mattergen_lite.diffusion.schedule import NoiseSchedule
from mattergen_lite.model import CrystalDiffusion

PROPERTIES = (
    PropertyConfig(name="band_gap", unit="eV", mean=1.0, std=1.5),
    PropertyConfig(name="space_group", kind="category", num_categories=230),
    PropertyConfig(name="chemical_system", kind="elements"),
)
# Sampling walks over all the noise there is: what is exact has to hold from one end to the other.
SCHEDULE = NoiseSchedule(
    log_mean=-1.2,
    log_std=1.2,
    sigma_min=0.002,
    sigma_max=10.0,
    start=10.0,
    end=0.002,
    rho=7.0,
)


def tiny_config(max_atoms: int = 20) -> ModelConfig:
    network = NetworkConfig(dim=32, depth=2, num_heads=4, pair_dim=8, mlp_ratio=2)
    return ModelConfig(
        network=network,
        properties=PROPERTIES,
        max_atoms=max_atoms,
        atom_count_histogram=(1,) * max_atoms,
    )


def random_crystals(sizes: list[int], seed: int = 0) -> CrystalBatch:
    """Random atoms in random triclinic cells."""
    rng = torch.Generator().manual_seed(seed)
    return CrystalBatch.from_crystals(
        [torch.randint(1, 95, (n,), generator=rng) for n in sizes],
        [torch.rand(n, 3, generator=rng) for n in sizes],
        4 * torch.eye(3) + 1.5 * torch.rand(len(sizes), 3, 3, generator=rng),
    )


def tiny_model(seed: int = 0) -> CrystalDiffusion:
    """Random weights everywhere, so that no invariance holds because outputs are zero."""
    torch.manual_seed(seed)
    model = CrystalDiffusion(tiny_config())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.diffusion.fit(random_crystals([4, 6, 8, 2, 5, 12], seed=9))
    model.diffusion.allowed_elements[1:] = True
    return model.eval()
