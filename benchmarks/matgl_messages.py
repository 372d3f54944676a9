"""Why M3GNet of matgl's first version is wrong in matgl 4: where messages are summed.

    python benchmarks/matgl_messages.py M3GNet-MP-2021.2.8-PES

Prints energies of NaCl and MgO and the acceptance test, as the weights load and with messages of
M3GNet summed at the end of an edge, as the version did that trained them.
"""

import sys

import torch
from matgl.layers import _graph_convolution
from matgl.utils.maths import scatter_add
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.energy.potentials.acceptance_test import run_acceptance_test
from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.potentials.sources import load_potential


def sum_at_the_end(
    self: torch.nn.Module,
    edge_index: torch.Tensor,
    edge_feat: torch.Tensor,
    node_feat: torch.Tensor,
    rbf: torch.Tensor,
    u_per_edge: torch.Tensor | None,
    num_nodes: int,
) -> torch.Tensor:
    """`M3GNetGraphConv.node_update_` of matgl 4, but for the last line."""
    start, end = edge_index
    inputs = torch.hstack([node_feat[start], node_feat[end], edge_feat])
    messages = self.node_update_func(inputs) * self.node_weight_func(rbf)
    return scatter_add(messages, end, dim_size=num_nodes, dim=0)


def report(label: str, potential: Potential) -> None:
    print(label)
    for (cation, anion), a in ((("Na", "Cl"), 5.69), (("Mg", "O"), 4.26)):
        cubic = Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        atoms = cubic.get_primitive_structure().to_ase_atoms(msonable=False)
        print(f"  {cation}{anion}: {potential.energy(atoms):.2f} eV")
    acceptance = run_acceptance_test(potential)
    print(f"  {acceptance}\n  {'; '.join(acceptance.problems) or 'passes'}")


def main() -> None:
    potential = load_potential(f"matgl:{sys.argv[1]}")
    report("as it loads", potential)
    _graph_convolution.M3GNetGraphConv.node_update_ = sum_at_the_end
    report("messages summed at the end of an edge", potential)


if __name__ == "__main__":
    main()
