"""MACE (Batatia et al., NeurIPS 2022) foundation models by name, or any MACE model by its path.

A `.model` file is a pickle: loading it runs what its maker put there.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pymatgen.core import Element

from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Family
from mattergen_lite.scoring.energy.potentials.torchsim import torchsim_batches

if TYPE_CHECKING:
    from torch_sim.models.interface import ModelInterface


def load(model: str, device: str) -> AsePotential:
    """Load a model such as medium-mpa-0, which is downloaded, or one by its path.

    Double precision, as its authors recommend for relaxations.

    Raises:
        ValueError: If the name is unknown.
    """
    from mace.calculators import MACECalculator, mace_mp
    from mace.calculators.foundations_models import mace_mp_urls

    if Path(model).exists():
        calculator = MACECalculator(model_paths=model, device=device, default_dtype="float64")
    elif model in mace_mp_urls:
        calculator = mace_mp(model=model, device=device, default_dtype="float64")
    else:
        raise ValueError(
            f"unknown MACE model {model!r}: expected a path or one of {', '.join(mace_mp_urls)}"
        )
    known = frozenset(Element.from_Z(int(number)).symbol for number in calculator.z_table.zs)
    together = torchsim_batches(_torchsim_model, calculator.models[0], device)
    return AsePotential(f"mace:{model}", calculator, known, together=together)


def _torchsim_model(network: torch.nn.Module, device: torch.device) -> "ModelInterface":
    """TorchSim's model of a network, in double precision."""
    from torch_sim.models.mace import MaceModel

    return MaceModel(network, device=device)


FAMILY = Family(
    name="mace", load=load, package="mace", distribution="mace-torch", suffix=".model", extra="mace"
)
