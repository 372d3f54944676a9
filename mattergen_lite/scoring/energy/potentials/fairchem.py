"""fairchem's UMA (Wood et al., arXiv:2506.23971) for inorganic crystals, the task "omat"."""

from pathlib import Path

from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Family

TASK = "omat"


def load(model: str, device: str) -> AsePotential:
    """Load a model such as uma-s-1p1, for which its makers want a login, or a checkpoint.

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
        known = ", ".join(pretrained_mlip.available_models)
        raise ValueError(f"unknown fairchem model {model!r}: expected a path or one of {known}")
    return AsePotential(f"uma:{model}", FAIRChemCalculator(network, task_name=TASK))


FAMILY = Family(
    name="uma",
    load=load,
    package="fairchem",
    distribution="fairchem-core",
    suffix=".pt",
    extra="fairchem",
)
