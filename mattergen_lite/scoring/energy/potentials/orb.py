"""Orb (Rhodes et al., arXiv:2504.06231) models by name, or their weights by path.

Direct models find forces without energies' gradients; prefer conservative ones for relaxations.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Family
from mattergen_lite.scoring.energy.potentials.torchsim import torchsim_batches

if TYPE_CHECKING:
    from torch_sim.models.interface import ModelInterface


def load(model: str, device: str) -> AsePotential:
    """Load a model such as orb-v3-conservative-inf-omat, which is downloaded, or its weights.

    The name of a file of weights begins with that of the model, as that of the published ones does.

    Raises:
        ValueError: If the name is unknown.
    """
    from orb_models.forcefield.calculator import ORBCalculator
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    path = Path(model)
    stem = path.name if path.exists() else model
    fitting = [name for name in ORB_PRETRAINED_MODELS if stem.startswith(name)]
    if not fitting or not (path.exists() or stem in fitting):
        raise ValueError(
            f"unknown Orb model {model!r}: expected one of {', '.join(ORB_PRETRAINED_MODELS)}, or "
            "a file of weights whose name begins with one"
        )
    weights = {"weights_path": str(path)} if path.exists() else {}
    network = ORB_PRETRAINED_MODELS[max(fitting, key=len)](
        device=device, precision="float32-highest", compile=False, **weights
    )
    calculator = ORBCalculator(network, device=device)
    together = torchsim_batches(_torchsim_model, network, device)
    return AsePotential(f"orb:{model}", calculator, together=together)


def _torchsim_model(network: torch.nn.Module, device: torch.device) -> "ModelInterface":
    """TorchSim's model of a network."""
    from torch_sim.models.orb import OrbModel

    return OrbModel(network, device=device)


FAMILY = Family(
    name="orb",
    load=load,
    package="orb_models",
    distribution="orb-models",
    suffix=".ckpt",
    extra="orb",
)
