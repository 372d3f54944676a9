"""Small models and random crystals for tests."""

import numpy as np
import torch

from mattergen_lite.config import ModelConfig, NetworkConfig, PropertyConfig
from mattergen_lite.diffusion.schedule import NoiseSchedule
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.symmetry.orbits import Orbits, p1_orbits, symmetrise_lattice
from mattergen_lite.symmetry.space_groups import SpaceGroup, space_group
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.tensors.geometry import canonical_orientation

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
# Wyckoff positions of some groups in the standard cell: what is not a number is free.
_X, _Y, _Z = np.eye(3)
_GENERAL = _X, _Y, _Z
SITES = {
    1: [((0, 0, 0), _GENERAL)] * 3,  # triclinic, polar along everything
    2: [((0, 0, 0), ()), ((0, 0, 0), _GENERAL)],
    4: [((0, 0, 0), _GENERAL)] * 2,  # monoclinic, polar along b
    8: [((0, 0, 0), (_X, _Z)), ((0, 0, 0), _GENERAL)],  # centred, polar along a and c
    36: [((0, 0, 0), (_Y, _Z)), ((0, 0, 0), _GENERAL)],  # orthorhombic, centred, polar along c
    62: [((0, 0, 0), ()), ((0, 1 / 4, 0), (_X, _Z)), ((0, 0, 0), _GENERAL)],
    99: [((0, 0, 0), (_Z,)), ((1 / 2, 0, 0), (_Z,))],  # tetragonal, polar along c
    136: [((0, 0, 0), ()), ((0, 0, 0), (_X + _Y,)), ((0, 0, 0), (_X + _Y, _Z))],
    146: [((0, 0, 0), (_Z,)), ((0, 0, 0), _GENERAL)],  # rhombohedral, polar along c
    154: [((0, 0, 2 / 3), (_X,)), ((0, 0, 0), _GENERAL)],
    166: [((0, 0, 0), ()), ((0, 0, 0), (_Z,)), ((0, 0, 0), (_X - _Y, _Z))],  # rhombohedral
    186: [((0, 0, 0), (_Z,)), ((1 / 3, 2 / 3, 0), (_Z,))],  # hexagonal, polar along c
    194: [((0, 0, 0), ()), ((1 / 3, 2 / 3, 0), (_Z,)), ((0, 0, 1 / 4), (_X + 2 * _Y,))],
    198: [((0, 0, 0), (_X + _Y + _Z,)), ((0, 0, 0), _GENERAL)],
    225: [((0, 0, 0), ()), ((1 / 2, 1 / 2, 1 / 2), ()), ((0, 0, 0), (_X + _Y + _Z,))],
}
POLAR = {1: 3, 4: 1, 8: 2, 36: 1, 99: 1, 146: 1, 186: 1}  # of these: how many polar axes


def tiny_config(max_atoms: int = 20) -> ModelConfig:
    network = NetworkConfig(dim=32, depth=2, num_heads=4, pair_dim=8, mlp_ratio=2)
    return ModelConfig(
        network=network,
        properties=PROPERTIES,
        max_atoms=max_atoms,
        atom_count_histogram=(1,) * max_atoms,
    )


def orbit_operations(group: SpaceGroup, place: np.ndarray) -> np.ndarray:
    """One operation for each place of the primitive cell to which a group brings a place."""
    images = (place @ group.rotations.transpose(0, 2, 1) + group.translations) % 1.0
    apart = images[:, None] - images
    same = np.abs(apart - np.rint(apart)).max(-1) < 1e-6
    return np.flatnonzero(same.argmax(1) == np.arange(len(images)))


def random_orbits(number: int, rng: np.random.Generator) -> Orbits:
    """A crystal with atoms on each of the listed positions of a group, free ones at random."""
    group = space_group(number)
    places = []
    for origin, directions in SITES[number]:
        place = np.array(origin, float) + sum(rng.random() * d for d in directions)
        places.append(place @ np.linalg.inv(group.primitive_cell) % 1.0)
    cell = 4.5 * np.eye(3) + 0.8 * rng.normal(size=(3, 3))
    return Orbits(
        space_group=number,
        lattice=symmetrise_lattice(group.primitive_cell @ cell, group),
        atomic_numbers=rng.integers(1, 95, len(places)),
        frac_coords=np.array(places),
        operations=tuple(orbit_operations(group, place) for place in places),
    )


def random_crystals(groups: list[int] | None = None, seed: int = 0) -> OrbitCrystals:
    """Random crystals in these space groups, by default in all that are listed."""
    rng = np.random.default_rng(seed)
    return OrbitCrystals.of([random_orbits(number, rng) for number in groups or SITES])


def random_p1(sizes: list[int], seed: int = 0) -> OrbitCrystals:
    """Random atoms in random triclinic cells, every atom an orbit."""
    rng = np.random.default_rng(seed)
    return OrbitCrystals.of(
        [p1_orbits(rng.integers(1, 95, n), rng.random((n, 3)), _random_cell(rng)) for n in sizes]
    )


def _random_cell(rng: np.random.Generator) -> np.ndarray:
    """Lower triangular, as all lattices are that the model sees."""
    lattice = 4 * np.eye(3) + 1.5 * rng.random((3, 3))
    return canonical_orientation(torch.from_numpy(lattice)).numpy()


def random_atoms(sizes: list[int], seed: int = 0) -> CrystalBatch:
    """Random atoms in random triclinic cells."""
    return random_p1(sizes, seed).expand()


def fit(model: CrystalDiffusion, crystals: OrbitCrystals) -> None:
    """Cell statistics of some crystals; all elements are seen."""
    templates = crystals.templates
    model.diffusion.lattice.fit(crystals.lattice, templates.space_group, templates.num_atoms)
    model.diffusion.allowed_elements[1:] = True


def tiny_model(seed: int = 0) -> CrystalDiffusion:
    """Random weights everywhere, so that no invariance holds because outputs are zero."""
    torch.manual_seed(seed)
    model = CrystalDiffusion(tiny_config())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    fit(model, random_crystals(seed=9))
    return model.eval()
