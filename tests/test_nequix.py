"""Nequix: files, energies that an independent evaluation confirms, forces that are gradients."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from crystals import nacl_primitive, quartz, triclinic
from e3nn import o3
from e3nn.math import normalize2mom
from pydantic import TypeAdapter
from torch.nn.functional import one_hot, silu

from mattergen_lite.data.materials import known_compound, labelled_compounds
from mattergen_lite.scoring.energy.potentials.acceptance_test import acceptance_of, identified
from mattergen_lite.scoring.energy.potentials.neighbors import neighbor_edges
from mattergen_lite.scoring.energy.potentials.nequix_network import NequixConfig, leaf_shapes
from mattergen_lite.scoring.energy.potentials.sources import load_potential

CONFIG = {
    "atomic_numbers": [8, 11, 14, 17, 22],
    "cutoff": 4.0,
    "hidden_irreps": "8x0e + 4x1o + 2x2e",
    "lmax": 2,
    "n_layers": 3,
    "radial_basis_size": 4,
    "radial_mlp_size": 6,
    "radial_mlp_layers": 2,
    "radial_polynomial_p": 6.0,
    "avg_n_neighbors": 12.0,
    "scale": 0.8,
    "shift": -4.0,
    "index_weights": False,
    "layer_norm": True,
}
NEQUIX_OAM = os.environ.get("NEQUIX_OAM_1", "")  # the file of nequix-oam-1, where there is one
with_weights = pytest.mark.skipif(not NEQUIX_OAM, reason="NEQUIX_OAM_1 names no file of weights")


def random_leaves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = leaf_shapes(TypeAdapter(NequixConfig).validate_python(CONFIG))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def write_model(path: Path, leaves: list[np.ndarray], config: dict = CONFIG) -> Path:
    with path.open("wb") as file:
        file.write(json.dumps(config).encode() + b"\n")
        for leaf in [*leaves, np.array(0.5)]:  # then numbers of the configuration
            np.lib.format.write_array(file, leaf, allow_pickle=leaf.dtype == object)
    return path


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    path = write_model(tmp_path_factory.mktemp("nequix") / "random.nqx", random_leaves())
    return load_potential(f"nequix:{path}")


def rattled() -> Atoms:
    atoms = quartz().to_ase_atoms(msonable=False)
    atoms.rattle(0.1, seed=1)
    return atoms


def energy_by_e3nn(atoms: Atoms) -> float:
    """The same network, message by message, out of the parts of e3nn."""
    config = TypeAdapter(NequixConfig).validate_python(CONFIG)
    weights = iter(torch.from_numpy(leaf) for leaf in random_leaves())
    edges, images, _ = neighbor_edges(atoms, config.cutoff)
    ends = atoms.positions[edges[:, 1]] + images @ atoms.cell.array
    vectors = torch.from_numpy(ends - atoms.positions[edges[:, 0]]).float()
    species = torch.tensor([config.atomic_numbers.index(number) for number in atoms.numbers])
    atom_energies = next(weights)[species]
    harmonics = o3.Irreps.spherical_harmonics(config.lmax)
    sh = o3.spherical_harmonics(harmonics, vectors, True, "component")
    x = vectors.norm(dim=1, keepdim=True) / config.cutoff
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    waves = torch.sin(math.pi * torch.arange(1, config.radial_basis_size + 1) * x)
    basis = 2 / config.cutoff**2 * waves / x * envelope
    irreps = o3.Irreps(f"{len(config.atomic_numbers)}x0e")
    features = one_hot(species, len(config.atomic_numbers)).float()
    hidden = o3.Irreps(config.hidden_irreps)
    for target in (*[hidden] * (config.n_layers - 1), hidden[:1]):
        summed = sums_by_e3nn(irreps, target, features, (edges, sh, basis), weights)
        features = gated_by_e3nn(target, summed, weights)
        irreps = target
    readout = (features @ next(weights) / math.sqrt(features.shape[1]))[:, 0]
    return float((readout * config.scale + config.shift + atom_energies).sum().detach())


def sums_by_e3nn(irreps, target, features, graph, weights) -> torch.Tensor:
    edges, sh, basis = graph
    centre, other = torch.from_numpy(edges.T.copy())
    harmonics = o3.Irreps.spherical_harmonics(CONFIG["lmax"])
    paths = [
        (i, j, mul, out)
        for i, (mul, one) in enumerate(irreps)
        for j, (_, two) in enumerate(harmonics)
        for out in one * two
        if out in target
    ]
    paths.sort(key=lambda path: path[3].l)
    messages = o3.Irreps([(mul, out) for _, _, mul, out in paths])
    steps = [(i, j, k, "uvu", True) for k, (i, j, _, _) in enumerate(paths)]
    product = o3.TensorProduct(
        irreps, harmonics, messages, steps, shared_weights=False, internal_weights=False
    )
    radial = silu(silu(basis @ next(weights)) @ next(weights)) @ next(weights)
    with_gates = irreps_with_gates(target)
    before, after = o3.Linear(irreps, irreps), o3.Linear(messages.regroup(), with_gates)
    skip = o3.Linear(irreps, with_gates)
    for linear in (before, after, skip):
        linear.weight.data = torch.cat([next(weights).flatten() for _ in linear.instructions])
    sent = product(before(features)[other], sh, radial)
    summed = torch.zeros(len(features), sent.shape[1]).index_add_(0, centre, sent)
    return after(summed / math.sqrt(CONFIG["avg_n_neighbors"])) + skip(features)


def irreps_with_gates(target) -> o3.Irreps:
    return (o3.Irreps(f"{target.num_irreps - target.count('0e')}x0e") + target).regroup()


def gated_by_e3nn(target, features, weights) -> torch.Tensor:
    irreps = irreps_with_gates(target)
    blocks = [
        features[:, part].unflatten(1, (mul, irrep.dim))
        for part, (mul, irrep) in zip(irreps.slices(), irreps, strict=True)
    ]
    square = sum((block**2).sum(1).mean(1) / block.shape[2] for block in blocks) / len(blocks)
    blocks = [block * next(weights)[:, None] / square.sqrt()[:, None, None] for block in blocks]
    scalars, start = normalize2mom(silu)(blocks[0]), target.count("0e")
    parts = [scalars[:, :start].flatten(1)]
    for block in blocks[1:]:
        parts.append((block * scalars[:, start : start + block.shape[1]]).flatten(1))
        start += block.shape[1]
    return torch.cat(parts, dim=1)


def test_energy_is_that_of_e3nns_parts(potential):
    for atoms in (rattled(), nacl_primitive().to_ase_atoms(msonable=False)):
        # e3nn finds the factor of its SiLU by a sample.
        assert potential.energy(atoms) == pytest.approx(energy_by_e3nn(atoms), abs=2e-3)


def test_energy_does_not_depend_on_order_origin_orientation_or_cell(potential):
    atoms = rattled()
    energy = potential.energy(atoms)
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.positions += [0.3, -1.0, 0.7]
    assert potential.energy(turned[::-1]) == pytest.approx(energy, abs=1e-4)
    assert potential.energy(atoms.repeat((2, 1, 1))) == pytest.approx(2 * energy, abs=1e-4)
    mirrored = atoms.copy()
    mirrored.set_cell(-atoms.cell.array, scale_atoms=True)
    assert potential.energy(mirrored) == pytest.approx(energy, abs=1e-4)


def test_forces_and_stress_are_gradients_alone_and_in_a_batch(potential):
    atoms = rattled()
    [point] = potential.single_points([atoms])
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * 0.01
        strain = np.eye(3)
        strain[0, 1] += sign * 0.005
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        energies.append([potential.energy(moved), potential.energy(strained)])
    force, virial = np.subtract(*energies) / [-0.02, 0.01]
    assert point.forces[1, 2] == pytest.approx(force, rel=5e-3, abs=5e-3)
    assert point.stress[0, 1] * atoms.get_volume() == pytest.approx(virial, rel=5e-3, abs=5e-3)
    np.testing.assert_allclose(point.forces.sum(axis=0), 0, atol=1e-4)
    salt = nacl_primitive().to_ase_atoms(msonable=False)
    _, second = potential.single_points([salt, atoms])
    assert second.energy == pytest.approx(point.energy, abs=1e-4)
    np.testing.assert_allclose(second.forces, point.forces, atol=1e-4)
    np.testing.assert_allclose(second.stress, point.stress, atol=1e-5)


def test_elements_without_energy_are_refused(potential):
    with pytest.raises(ValueError, match="Li, P unsupported by nequix:"):
        potential.energy(Atoms("LiP", positions=[[0, 0, 0], [2, 0, 0]], cell=[4, 4, 4], pbc=True))
    assert potential.supported_elements == {"O", "Na", "Si", "Cl", "Ti"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda leaves, config: leaves.pop(), r"array 36 has the shape \(\): expected \(8, 1\)"),
        (lambda leaves, config: leaves.insert(3, np.zeros((2, 2))), "array 3 has the shape"),
        (lambda leaves, config: leaves.append(np.zeros(3)), "more than 37 arrays"),
        (lambda leaves, config: leaves[5].fill(np.nan), "array 5 is not finite"),
        (lambda leaves, config: leaves.__setitem__(4, np.array([print])), "4 of 37 arrays, then"),
        (lambda leaves, config: config.update(layer_norm=False), "expected neither"),
        (lambda leaves, config: config.update(hidden_irreps="8x0e + 4x1e"), "expected 0e, 1o"),
        (lambda leaves, config: config.update(lmax=9), "expected 0 to at most 4"),
        (lambda leaves, config: config.update(cutoff=0), "is not positive"),
        (lambda leaves, config: config.pop("cutoff"), "cutoff: Field required"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, change, problem):
    leaves, config = random_leaves(), dict(CONFIG)
    change(leaves, config)
    path = write_model(tmp_path / "other.nqx", leaves, config)
    with pytest.raises(ValueError, match=f"other.nqx is no Nequix model: .*{problem}"):
        load_potential(f"nequix:{path}")


def test_damaged_files_are_refused_with_a_reason(tmp_path):
    path = write_model(tmp_path / "cut.nqx", random_leaves())
    for content in (path.read_bytes()[:2000], b"{]\n", b"", b"\xff\xfe\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.nqx is no Nequix model"):
            load_potential(str(path))  # the suffix tells the family
    with pytest.raises(ValueError, match=r"nowhere\.nqx is no Nequix model: expected a file"):
        load_potential("nequix:nowhere.nqx")


def test_unknown_weights_are_told_apart_by_their_bytes(tmp_path):
    leaves = random_leaves()
    one = identified(f"nequix:{write_model(tmp_path / 'a.nqx', leaves)}")
    leaves[-1][0] += 1
    other = identified(f"nequix:{write_model(tmp_path / 'b.nqx', leaves)}")
    assert one.name == f"nequix:{tmp_path / 'a.nqx'}"
    assert len(one.identity) == 64
    assert one.identity != other.identity


@with_weights
def test_nequix_oam_1_gives_the_energies_of_its_makers_code():
    source = identified(f"nequix:{NEQUIX_OAM}")
    assert source.name == "nequix-oam-1"
    known = load_potential(source)
    table = labelled_compounds().set_index("material_id", drop=False)
    salt = known_compound(table.loc["mp-22862"].to_dict()).structure.to_ase_atoms(msonable=False)
    assert known.energy(salt) / len(salt) == pytest.approx(-3.3872, abs=2e-4)
    assert len(known.supported_elements) == 89
    acceptance = acceptance_of(source)
    assert not acceptance.problems
    assert acceptance.energy_scheme == "raw"
    [point] = known.single_points([triclinic().to_ase_atoms(msonable=False)])
    assert np.isfinite(point.stress).all()
