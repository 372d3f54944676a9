"""Evaluates many crystals at once through TorchSim (Cohen et al., arXiv:2508.06628), on a GPU.

TorchSim has models of SevenNet, MACE and Orb and fills the GPU's memory. Where it is not installed,
and on a CPU, ASE's calculators take one crystal after the other. Its models of MatterSim and
fairchem are not used: one ignores the device, the other is of fairchem's first version.
"""

import copy
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from mattergen_lite.scoring.energy.potentials.base import SinglePoint

if TYPE_CHECKING:
    from ase import Atoms
    from torch_sim.models.interface import ModelInterface

# Copies of a crystal with which TorchSim looks for the end of the memory: of a single atom more
# than the judge ever asks for at once.
MAX_COPIES = 2048
MEMORY_SHARE = 0.9  # of what it finds; crystals change while they relax


class TorchSimBatches:
    """Energies, forces and stress of many crystals by a model of TorchSim."""

    def __init__(self, model: "ModelInterface") -> None:
        from torch_sim import BinningAutoBatcher

        self.model = model
        self.batcher = False  # TorchSim does not measure the memory of a CPU
        if model.device.type == "cuda":
            self.batcher = BinningAutoBatcher(
                model,
                memory_scales_with=model.memory_scales_with,
                max_atoms_to_try=MAX_COPIES,
                max_memory_padding=MEMORY_SHARE,
            )

    def __call__(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Evaluate two or more crystals."""
        from torch_sim import static

        crystals = [_right_handed(atoms) for atoms in batch]
        with redirect_stdout(None):  # on which TorchSim reports the memory
            points = static(crystals, self.model, autobatcher=self.batcher)
        return [
            SinglePoint(
                energy=float(point["potential_energy"]),
                forces=point["forces"].double().cpu().numpy(),
                stress=point["stress"].reshape(3, 3).double().cpu().numpy(),
            )
            for point in points
        ]


def torchsim_batches(
    model: str, network: torch.nn.Module, device: str, **settings: str | None
) -> TorchSimBatches | None:
    """How TorchSim evaluates batches by a copy of a network; None if it is not installed.

    Args:
        model: Class that TorchSim has for such networks, as "mace.MaceModel".
        network: Of a potential.
        device: "cpu" works on one crystal at a time, like the judge; "cpu:0" on batches.
        **settings: Of the class.
    """
    if device == "cpu" or find_spec("torch_sim") is None:
        return None
    module, _, name = model.partition(".")
    wrap = getattr(import_module(f"torch_sim.models.{module}"), name)
    return TorchSimBatches(wrap(copy.deepcopy(network), device=torch.device(device), **settings))


def _right_handed(atoms: "Atoms") -> "Atoms":
    """The same crystal in a cell of positive determinant: volumes are signed in TorchSim."""
    if atoms.cell.handedness > 0:
        return atoms
    swapped = atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])
    return swapped
