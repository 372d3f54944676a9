"""The element table, and that weights and element descriptors belong together."""

import sys
from pathlib import Path

import pytest
import torch

from mattergen_lite.chemistry import elements
from mattergen_lite.config import DataConfig
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import EMBEDDED, read_crystal_table, select_rows
from mattergen_lite.diffusion import atom_types, joint
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.training.module import drawn_losses

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from build_element_descriptors import descriptors

COUNT = 128


@pytest.fixture(scope="module")
def crystals() -> OrbitCrystals:
    """Known crystals near the hull, every hundredth or so of the table."""
    limits = DataConfig(max_e_above_hull=0.05, max_atoms=20)
    data = OrbitDataset.from_table(select_rows(read_crystal_table(EMBEDDED), ("train",), limits))
    return data.crystals(torch.linspace(0, len(data) - 1, COUNT).long())


def lattice_loss(model: CrystalDiffusion, crystals: OrbitCrystals) -> float:
    with torch.inference_mode():
        rng = torch.Generator().manual_seed(0)
        return drawn_losses(model, crystals, None, rng).lattice.mean().item()


def test_descriptors_are_unit_vectors_and_padding_is_zero() -> None:
    table = elements.element_descriptors()
    assert table.shape == (elements.MAX_ATOMIC_NUMBER + 1, elements.DESCRIPTOR_DIM)
    assert table[0].eq(0).all()
    torch.testing.assert_close(table[1:].norm(dim=1), torch.ones(elements.MAX_ATOMIC_NUMBER))


def test_descriptors_are_those_that_the_script_computes_in_some_basis() -> None:
    """Similarities do not depend on the basis, which differs between linear algebra libraries."""
    shipped, computed = elements.element_descriptors(), descriptors()
    torch.testing.assert_close(shipped @ shipped.T, computed @ computed.T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mp", "tiny"])
def test_a_shipped_model_reads_the_shipped_basis_and_no_other(
    name: str, crystals: OrbitCrystals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that has learnt nothing has the loss 1."""
    model = CrystalDiffusion.load(find_checkpoint(name))
    own = lattice_loss(model, crystals)
    assert own < 1
    mirrored = elements.element_descriptors() * torch.tensor([1.0] * 15 + [-1.0])
    for module in (atom_types, joint):
        monkeypatch.setattr(module, "element_descriptors", lambda: mirrored)
    assert lattice_loss(model, crystals) > own
