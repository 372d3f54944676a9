"""Loads models that come with an ASE calculator: MACE, Orb, MatterSim, UMA and those of matgl.

Each loader takes the name of a model, which its makers' package downloads, or a path to weights.
"""

from collections.abc import Iterable
from pathlib import Path

from pymatgen.core import Element

from mattergen_lite.scoring.energy.potentials.base import AsePotential
from mattergen_lite.scoring.energy.potentials.torchsim import torchsim_batches

MATTERSIM_MODELS = ("mattersim-v1.0.0-1m", "mattersim-v1.0.0-5m")


def _unknown(package: str, model: str, known: Iterable[str]) -> ValueError:
    return ValueError(
        f"unknown {package} model {model!r}: expected a path or one of {', '.join(known)}"
    )


def mace(model: str, device: str) -> AsePotential:
    """MACE (Batatia et al., NeurIPS 2022), such as medium-mpa-0, in double precision.

    A `.model` file is a pickle: loading it runs what its maker put there.

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
        raise _unknown("MACE", model, mace_mp_urls)
    known = frozenset(Element.from_Z(int(number)).symbol for number in calculator.z_table.zs)
    together = torchsim_batches("mace.MaceModel", calculator.models[0], device)
    return AsePotential(f"mace:{model}", calculator, known, together=together)


def orb(model: str, device: str) -> AsePotential:
    """Orb (Rhodes et al., arXiv:2504.06231), such as orb-v3-conservative-inf-omat.

    The name of a file of weights begins with that of the model. Direct models find forces without
    the energy's gradient; prefer conservative ones for relaxations.

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
    together = torchsim_batches("orb.OrbModel", network, device)
    return AsePotential(f"orb:{model}", ORBCalculator(network, device=device), together=together)


def mattersim(model: str, device: str) -> AsePotential:
    """MatterSim (Yang et al., arXiv:2405.04967), such as MatterSim-v1.0.0-5M.

    Raises:
        ValueError: If the name is unknown.
    """
    from ase.units import GPa
    from mattersim.forcefield import MatterSimCalculator, Potential

    if not Path(model).exists() and model.lower() not in MATTERSIM_MODELS:
        raise _unknown("MatterSim", model, MATTERSIM_MODELS)
    network = Potential.from_checkpoint(load_path=model, device=device, load_training_state=False)
    calculator = MatterSimCalculator(network, device=device, stress_weight=GPa)
    return AsePotential(f"mattersim:{model}", calculator)


def matgl(model: str, device: str) -> AsePotential:
    """M3GNet, CHGNet and TensorNet of matgl (Ko et al., npj Comput. Mater. 2025, 11, 253).

    Weights of M3GNet that were trained with matgl before its version 2 are wrong in newer ones: see
    `docs/howto/potentials.md`. The acceptance test refuses them.
    """
    from matgl import load_model
    from matgl.ext.ase import PESCalculator

    network = load_model(model).to(device)
    network.requires_grad_(False)
    calculator = PESCalculator(network, stress_unit="eV/A3")
    return AsePotential(f"matgl:{model}", calculator, frozenset(network.model.element_types))


def uma(model: str, device: str) -> AsePotential:
    """UMA of fairchem (Wood et al., arXiv:2506.23971), such as uma-s-1p1, for inorganic crystals.

    Its makers want a login.

    Raises:
        ValueError: If the name is unknown.
    """
    from fairchem.core import FAIRChemCalculator, pretrained_mlip
    from fairchem.core.units.mlip_unit import load_predict_unit

    unit = "cpu" if device == "cpu" else "cuda"
    if Path(model).exists():
        network = load_predict_unit(model, device=unit)
    elif model in pretrained_mlip.available_models:
        network = pretrained_mlip.get_predict_unit(model, device=unit)
    else:
        raise _unknown("fairchem", model, pretrained_mlip.available_models)
    return AsePotential(f"uma:{model}", FAIRChemCalculator(network, task_name="omat"))
