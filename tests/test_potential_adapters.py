"""Adapters of other people's potentials, each with its real package and weights made here.

Weights are random, of the published architectures at their smallest, and go through a file as real
ones do: what is tested is that energies, forces and stress arrive in the right units and order.
Packages that are not installed are skipped.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from crystals import triclinic
from pymatgen.core import Structure

from mattergen_lite.scoring.energy.potentials import sources
from mattergen_lite.scoring.energy.potentials.acceptance_test import run_acceptance_test
from mattergen_lite.scoring.energy.potentials.base import AsePotential
from mattergen_lite.scoring.energy.potentials.families import FAMILIES
from mattergen_lite.scoring.energy.potentials.sevennet import SevennetPotential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.potentials.torchsim import torchsim_batches

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def assert_consistent(potential, tolerance=0.02):
    """Forces and pressure are what finite differences of the energy are."""
    atoms = triclinic().to_ase_atoms(msonable=False)
    [point] = potential.single_points([atoms])
    assert point.energy == pytest.approx(potential.energy(atoms), abs=1e-3)
    scale = max(float(np.abs(point.forces).max()), 1e-3)
    for atom, axis in ((0, 0), (2, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * 0.01
            energies.append(potential.energy(moved))
        expected = (energies[1] - energies[0]) / 0.02
        assert point.forces[atom, axis] == pytest.approx(expected, abs=tolerance * scale + 1e-3)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * 0.002), scale_atoms=True)
        energies.append(potential.energy(strained))
    virial = (energies[0] - energies[1]) / 0.004
    found = np.trace(point.stress) * atoms.get_volume()
    assert found == pytest.approx(virial, abs=tolerance * max(abs(virial), 1.0))


def random_mace(tmp_path):
    """Path of a MACE model for the elements of `triclinic`."""
    pytest.importorskip("mace")
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    numbers = sorted({site.specie.Z for site in triclinic()})
    torch.set_default_dtype(torch.float64)
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("8x0e"),
        MLP_irreps=o3.Irreps("8x0e"),
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=10.0,
        atomic_numbers=numbers,
        correlation=2,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.set_default_dtype(torch.float32)
    path = tmp_path / "random.model"
    torch.save(model, path)
    return str(path)


def test_mace(tmp_path):
    potential = load_potential(random_mace(tmp_path))
    assert potential.supported_elements == set(triclinic().symbol_set)
    assert_consistent(potential)
    with pytest.raises(ValueError, match="unknown MACE model 'nothing': expected a path or one of"):
        load_potential("mace:nothing")


def random_orb(tmp_path):
    """Path of an Orb model's weights."""
    pytest.importorskip("orb_models")
    from orb_models.forcefield.atomic_system import SystemConfig
    from orb_models.forcefield.pretrained import orb_v3_conservative_architecture

    name = "orb-v3-conservative-inf-omat"
    model = orb_v3_conservative_architecture(
        device="cpu", system_config=SystemConfig(radius=6.0, max_num_neighbors=120)
    )
    path = tmp_path / f"{name}-random.ckpt"
    torch.save(model.state_dict(), path)
    return str(path)


def test_orb(tmp_path):
    assert_consistent(load_potential(random_orb(tmp_path)))
    with pytest.raises(ValueError, match="unknown Orb model 'orb-v9': expected one of"):
        load_potential("orb:orb-v9")


def random_mattersim(tmp_path):
    """Name and path of a MatterSim model."""
    pytest.importorskip("mattersim")
    from mattersim.forcefield.m3gnet.m3gnet import M3Gnet

    sizes = {"num_blocks": 2, "units": 16, "max_l": 3, "max_n": 3, "max_z": 94}
    path = tmp_path / "random.pth"
    model = M3Gnet(device="cpu", **sizes)
    torch.save({"model_name": "m3gnet", "model_args": sizes, "model": model.state_dict()}, path)
    return f"mattersim:{path}"


def test_mattersim(tmp_path):
    assert_consistent(load_potential(random_mattersim(tmp_path)))
    with pytest.raises(ValueError, match="unknown MatterSim model 'm': expected a path or one of"):
        load_potential("mattersim:m")


@pytest.mark.parametrize("architecture", ["M3GNet", "TensorNet", "CHGNet"])
def test_matgl(tmp_path, architecture):
    pytest.importorskip("matgl")
    from matgl import models
    from matgl.apps.pes import Potential

    model = getattr(models, architecture)(is_intensive=False)
    Potential(model=model).save(tmp_path / "random")
    potential = load_potential(str(tmp_path / "random"))
    assert "Li" in potential.supported_elements
    assert_consistent(potential)


def test_matgl_refuses_weights_of_its_first_version():
    """M3GNet whose messages went the other way: NaCl at -2.6 eV where -6.8 is right."""
    pytest.importorskip("matgl")
    weights = Path(__file__).parents[2] / "shared" / "potentials" / "M3GNet-MP-2021.2.8-PES"
    if not weights.exists():
        pytest.skip("the weights are not in the repository")
    acceptance = run_acceptance_test(load_potential(f"matgl:{weights}"))
    assert acceptance.mean_error > 1
    with pytest.raises(ValueError, match=r"fails the acceptance.*formation energies are off by"):
        acceptance.check()


@pytest.mark.parametrize("given", ["7net-l3i5", "7net-mf-0", random_mace, random_orb])
def test_batches_through_torchsim_are_what_ase_says(tmp_path, monkeypatch, given):
    """On a CPU, where a potential of itself takes one crystal after the other."""
    reason = "TorchSim is not installed: pip install '.[torchsim]'"
    pytest.importorskip("torch_sim", reason=reason)
    name = given if isinstance(given, str) else given(tmp_path)
    one_by_one = load_potential(name)
    module = type(one_by_one).__module__
    if isinstance(one_by_one, AsePotential):
        module = "mattergen_lite.scoring.energy.potentials.calculators"
    on_a_device = partial(torchsim_batches, device="cpu:0")
    monkeypatch.setattr(
        f"{module}.torchsim_batches", lambda kind, net, _, **rest: on_a_device(kind, net, **rest)
    )
    sources._load.cache_clear()
    together = load_potential(name)
    sources._load.cache_clear()
    assert getattr(together, "full", together).together is not None
    batch = [
        crystal.to_ase_atoms(msonable=False)
        for crystal in (triclinic(), left_handed(triclinic()), triclinic() * (2, 1, 1))
    ]
    batch[2].rattle(0.05, seed=0)
    expected = one_by_one.single_points(batch)
    for atoms, point, right in zip(batch, together.single_points(batch), expected, strict=True):
        assert point.energy == pytest.approx(right.energy, abs=1e-4 * len(atoms))
        assert point.forces == pytest.approx(right.forces, abs=1e-3)
        assert point.stress == pytest.approx(right.stress, abs=1e-4)


def test_potentials_work_without_torchsim(monkeypatch):
    without = "mattergen_lite.scoring.energy.potentials.torchsim.find_spec"
    monkeypatch.setattr(without, lambda package: None)
    assert SevennetPotential("7net-0", "cpu:0").full.together is None


def left_handed(crystal):
    """The same crystal, its cell vectors in another order."""
    return Structure(
        crystal.lattice.matrix[[1, 0, 2]],
        crystal.species,
        crystal.cart_coords,
        coords_are_cartesian=True,
    )


def test_fairchem():
    pytest.importorskip("fairchem.core")
    with pytest.raises(ValueError, match="unknown fairchem model 'uma-z': expected a path or one"):
        load_potential("uma:uma-z")


@pytest.mark.parametrize("family", [name for name, one in FAMILIES.items() if one.extra])
def test_what_is_not_installed_says_how_to_install_it(family, monkeypatch):
    if FAMILIES[family].package in sys.modules:
        pytest.skip("it is installed")
    monkeypatch.setattr(
        "mattergen_lite.scoring.energy.potentials.sources.find_spec", lambda package: None
    )
    with pytest.raises(ValueError, match=rf"pip install '\.\[{FAMILIES[family].extra}\]'"):
        load_potential(f"{family}:anything")
