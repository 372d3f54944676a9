"""matgl's M3GNet, CHGNet and TensorNet (Ko et al., npj Comput. Mater. 2025, 11, 253).

Weights of M3GNet that were trained with matgl before its version 2 are wrong in newer ones: see
`docs/howto/potentials.md`. The entrance exam refuses them.
"""

from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Family


def load(model: str, device: str) -> AsePotential:
    """Load a model by its name, which is downloaded, or by the path of its folder."""
    import matgl
    from matgl.ext.ase import PESCalculator

    network = matgl.load_model(model).to(device)
    network.requires_grad_(False)
    calculator = PESCalculator(network, stress_unit="eV/A3")
    return AsePotential(f"matgl:{model}", calculator, frozenset(network.model.element_types))


FAMILY = Family(
    name="matgl", load=load, package="matgl", distribution="matgl", suffix="/", extra="matgl"
)
