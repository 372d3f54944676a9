"""SevenNet (Park et al., JCTC 2024, 20, 4857): 7net-0, 7net-mf-0 and 7net-l3i5 in its wheel."""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pymatgen.core import Element, Structure

from mattergen_lite.scoring.energy.potentials.base import AsePotential, SinglePoint
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.potentials.torchsim import torchsim_batches

if TYPE_CHECKING:
    from ase import Atoms

# Of models trained on several sets at once, the one whose settings are the Materials Project's.
_PBE_TASKS = {"mf-0": "PBE", "mf-ompa": "mpa", "omni": "mpa", "omni-i8": "mpa", "omni-i12": "mpa"}


def load(model: str, device: str) -> "SevennetPotential":
    """Load a model by its name without "7net-", or a checkpoint by its path."""
    is_path = Path(model).exists()
    return SevennetPotential(model if is_path else f"7net-{model}", device, _PBE_TASKS.get(model))


class SevennetPotential:
    """A SevenNet model of PBE and PBE+U energies, with MP2020 corrections.

    7net-l3i5 is slower than CHGNet by 7, and more accurate.
    """

    def __init__(
        self, name: str = "7net-l3i5", device: str = "cpu", task: str | None = None
    ) -> None:
        import sevenn.calculator

        self.name = name
        with warnings.catch_warnings(action="ignore"):  # no tensor product accelerator
            calculator = sevenn.calculator.SevenNetCalculator(name, device=device, modal=task)
        self.supported_elements = frozenset(
            Element.from_Z(number).symbol for number in calculator.type_map
        )
        # TorchSim 0.3 imports it, to recognise models that are scripts; sevenn 0.13 has lost it.
        sevenn.calculator.torch_script_type = torch.jit.ScriptModule
        network = calculator.model
        together = torchsim_batches("sevennet.SevenNetModel", network, device, modal=task)
        self.full = AsePotential(name, calculator, self.supported_elements, "raw", together)
        self.energy_model = copy.deepcopy(network)
        self.energy_model.delete_module_by_key("force_output")

    def energy(self, atoms: "Atoms") -> float:
        """Energy in eV, without the backward pass."""
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        calculator = self.full.calculator
        graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, calculator.cutoff))
        if calculator.modal:
            graph["data_modality"] = calculator.modal
        with torch.no_grad():
            return float(self.energy_model(graph.to(calculator.device))["inferred_total_energy"])

    def single_points(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Energy, forces and stress; on a GPU together, if TorchSim is installed."""
        return self.full.single_points(batch)

    def correction(self, structure: Structure) -> float:
        """MP2020 corrections: the energies are of raw PBE and PBE+U."""
        return mp2020_correction(structure)
