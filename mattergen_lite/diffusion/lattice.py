"""Lattice: Gaussian noise on the free numbers of the cell.

The metric of the standard cell is `G = exp(2 S)` with a symmetric matrix S, the log strain. A
crystal family leaves a linear subspace of S free: 1 number for cubic cells, 2 for tetragonal,
trigonal and hexagonal, 3 for orthorhombic, 4 for monoclinic, 6 for triclinic ones (the k basis of
Jiao et al. 2024, arXiv 2402.03992). The 120 degrees of hexagonal axes are a constant of the state,
never of the noise. One number is the logarithm of the volume per atom; the others do not change it.
"""

import torch
from torch import Tensor, nn

from mattergen_lite.diffusion.schedule import scalings
from mattergen_lite.properties import crystal_system_index
from mattergen_lite.symmetry.space_groups import space_group_tables
from mattergen_lite.tensors.geometry import cholesky_lattice
from mattergen_lite.tensors.shapes import Bool, Float, Int

SIGMA_DATA = 0.3  # free coordinates spread by 1/sqrt(12) = 0.29; one sigma then suits both

MIN_STD = 0.05  # 5% in length or shear
MIN_CRYSTALS = 50  # of a crystal system; with fewer, statistics of all systems serve
_LIMIT = 6.0  # standard deviations: far outside any crystal, yet no overflow of the exponential

_FREE_NUMBERS = (0, 6, 4, 3, 2, 2, 2, 1)  # by crystal system 1..7, triclinic to cubic
_TRIGONAL, _HEXAGONAL = 5, 6


def _strain_basis() -> Float[Tensor, "6 3 3"]:
    """Orthonormal symmetric matrices, in the order in which crystal systems free them.

    Volume, c against a and b, a against b, and the shears xz (monoclinic), xy and yz.
    """
    diagonals = [[1, 1, 1], [1, 1, -2], [1, -1, 0]]
    basis = [torch.diag(torch.tensor(d, dtype=torch.double)) for d in diagonals]
    for i, j in ((0, 2), (0, 1), (1, 2)):
        shear = torch.zeros(3, 3, dtype=torch.double)
        shear[i, j] = shear[j, i] = 1
        basis.append(shear)
    return torch.stack([matrix / torch.linalg.matrix_norm(matrix) for matrix in basis])


def _hexagonal_reference() -> Float[Tensor, "3 3"]:
    """Log strain of a cell of volume 1 with a = b = c and 120 degrees between a and b."""
    gram = torch.tensor([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]], dtype=torch.double)
    return _symmetric_log(gram) / 2 - torch.eye(3) * torch.logdet(gram) / 6


def _symmetric_log(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """Matrix logarithm of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag_embed(values.log()) @ vectors.mT


def free_numbers(space_group: Int[Tensor, "B"]) -> Bool[Tensor, "B 6"]:
    """Which of the six numbers of a cell its crystal system leaves free."""
    count = torch.tensor(_FREE_NUMBERS, device=space_group.device)[
        crystal_system_index(space_group)
    ]
    return torch.arange(6, device=space_group.device) < count.unsqueeze(-1)


class LatticeChannel(nn.Module):
    """Standardisation of the free numbers by crystal system, kept with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8, 6))  # by crystal system 1..7
        self.register_buffer("std", torch.ones(8, 6))
        cells = torch.tensor(space_group_tables()["primitive_cells"])
        cells[0] = torch.eye(3)  # no group has the number 0
        reference = torch.zeros(8, 3, 3, dtype=torch.double)
        reference[_TRIGONAL] = reference[_HEXAGONAL] = _hexagonal_reference()
        self.register_buffer("primitive_cells", cells, persistent=False)
        self.register_buffer("basis", _strain_basis(), persistent=False)
        self.register_buffer("reference", reference, persistent=False)

    def fit(
        self,
        lattice: Float[Tensor, "M 3 3"],
        space_group: Int[Tensor, "M"],
        num_atoms: Int[Tensor, "M"],
    ) -> None:
        """Set mean and spread of each crystal system from training lattices."""
        raw = self._strain_numbers(lattice, space_group, num_atoms)
        system = crystal_system_index(space_group)
        for number in range(1, 8):
            rows = raw[system == number]
            rows = raw if len(rows) < MIN_CRYSTALS else rows
            self.mean[number] = rows.mean(0)
            self.std[number] = rows.std(0, correction=0).clamp(min=MIN_STD)

    def encode(
        self,
        lattice: Float[Tensor, "B 3 3"],
        space_group: Int[Tensor, "B"],
        num_atoms: Int[Tensor, "B"],
    ) -> Float[Tensor, "B 6"]:
        """Free numbers, standard deviation SIGMA_DATA over the training set; 0 where not free."""
        system = crystal_system_index(space_group)
        raw = self._strain_numbers(lattice, space_group, num_atoms)
        scaled = (raw - self.mean[system]) / self.std[system] * SIGMA_DATA
        return scaled.to(lattice) * free_numbers(space_group)

    def decode(
        self, cell: Float[Tensor, "B 6"], space_group: Int[Tensor, "B"], num_atoms: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 3 3"]:
        """Lower-triangular row lattice of the primitive cell in Å."""
        system = crystal_system_index(space_group)
        scaled = (cell / SIGMA_DATA).clamp(-_LIMIT, _LIMIT) * self.std[system] + self.mean[system]
        raw = (scaled * free_numbers(space_group)).double()
        # S = S_ref + sum_k x_k B_k, then G = exp(2 S) of the standard cell of volume 1 an atom
        strain = self.reference[system] + torch.einsum("bk,kij->bij", raw, self.basis)
        primitive = self.primitive_cells[space_group]
        # V = N v: the number of atoms in the standard cell, shared out over three lengths.
        size = (num_atoms / torch.linalg.det(primitive)) ** (2 / 3)
        # Primitive rows are P times standard rows: P G Pᵀ, whose Cholesky factor is the lattice.
        gram = primitive @ torch.linalg.matrix_exp(2 * strain) @ primitive.mT
        return cholesky_lattice(gram * size[:, None, None]).to(cell)

    def best_guess(
        self, noisy: Float[Tensor, "B 6"], sigma: Float[Tensor, "B"]
    ) -> Float[Tensor, "B 6"]:
        """Posterior mean if the numbers were Gaussian: distances are measured with it."""
        return scalings(sigma, SIGMA_DATA).skip[:, None] * noisy

    def _strain_numbers(
        self,
        lattice: Float[Tensor, "B 3 3"],
        space_group: Int[Tensor, "B"],
        num_atoms: Int[Tensor, "B"],
    ) -> Float[Tensor, "B 6"]:
        """The numbers x_k = <S - S_ref - s I, B_k> of lattices, the inverse of `decode`.

        S = log(G) / 2 is the log strain of the standard cell, s a third of the logarithm of its
        number of atoms.
        """
        primitive = self.primitive_cells[space_group]
        standard = torch.linalg.inv(primitive) @ lattice.double()
        strain = _symmetric_log(standard @ standard.mT) / 2
        size = (num_atoms / torch.linalg.det(primitive)).log() / 3
        strain = strain - self.reference[crystal_system_index(space_group)]
        strain = strain - size[:, None, None] * torch.eye(3, device=strain.device)
        return torch.einsum("bij,kij->bk", strain, self.basis).to(self.mean)


def noise(normal: Float[Tensor, "B 6"], space_group: Int[Tensor, "B"]) -> Float[Tensor, "B 6"]:
    """Noise of unit size on the free numbers; 0 on those that symmetry fixes."""
    return normal * free_numbers(space_group)


def displacement(
    prediction: Float[Tensor, "B 6"],
    noisy: Float[Tensor, "B 6"],
    sigma: Float[Tensor, "B"],
    space_group: Int[Tensor, "B"],
) -> Float[Tensor, "B 6"]:
    """Denoised (EDM) minus noisy numbers from the network's unit-size prediction."""
    scale = scalings(sigma, SIGMA_DATA)
    denoised = scale.skip[:, None] * noisy + scale.out[:, None] * prediction
    return (denoised - noisy) * free_numbers(space_group)


def loss(
    prediction: Float[Tensor, "B 6"],
    clean: Float[Tensor, "B 6"],
    noisy: Float[Tensor, "B 6"],
    sigma: Float[Tensor, "B"],
    space_group: Int[Tensor, "B"],
) -> Float[Tensor, "B"]:
    """Squared error of the network's unit-size target, mean over the free numbers.

    EDM's preconditioning (Karras et al. 2022, table 1): target = (clean - c_skip noisy) / c_out.
    """
    scale, free = scalings(sigma, SIGMA_DATA), free_numbers(space_group)
    target = (clean - scale.skip[:, None] * noisy) / scale.out[:, None]
    return (((prediction - target) ** 2) * free).sum(-1) / free.sum(-1)
