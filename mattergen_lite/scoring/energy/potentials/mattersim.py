"""MatterSim (Yang et al., arXiv:2405.04967) models by name, or a checkpoint by its path."""

from pathlib import Path

from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Family

MODELS = ("mattersim-v1.0.0-1m", "mattersim-v1.0.0-5m")


def load(model: str, device: str) -> AsePotential:
    """Load a model such as MatterSim-v1.0.0-5M, which is downloaded, or a checkpoint.

    Raises:
        ValueError: If the name is unknown.
    """
    from ase.units import GPa
    from mattersim.forcefield import MatterSimCalculator, Potential

    if not Path(model).exists() and model.lower() not in MODELS:
        raise ValueError(
            f"unknown MatterSim model {model!r}: expected a path or one of {', '.join(MODELS)}"
        )
    network = Potential.from_checkpoint(load_path=model, device=device, load_training_state=False)
    calculator = MatterSimCalculator(network, device=device, stress_weight=GPa)
    return AsePotential(f"mattersim:{model}", calculator)


FAMILY = Family(
    name="mattersim",
    load=load,
    package="mattersim",
    distribution="mattersim",
    suffix=".pth",
    extra="mattersim",
)
