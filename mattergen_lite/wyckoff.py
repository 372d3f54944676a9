"""Sampling with the symmetry of a known crystal: exact space groups from a network without any.

A pattern is what is left of a crystal without its elements, free coordinates and cell lengths: its
symmetry operations, and which atoms they take to which. Crystals with that pattern form a linear
space of coordinates, a linear space of atom types (equal on an orbit) and a set of cells. The noise
and every displacement of the network are projected onto them, so a sample starts, stays and ends
there: special positions stay special, free ones are free.

Atoms of an orbit are copies of one atom, and so is their noise, of the size that the network knows:
an orbit is seen once. (Jiao et al. 2024, arXiv 2402.03992, train a network that way; here any model
is sampled so.)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.diffusion.lattice import LatticeChannel
from mattergen_lite.geometry import cholesky_lattice, wrap
from mattergen_lite.shapes import Bool, Float, Int

SYMPREC = 0.1  # Å; of the known crystals, as their space groups in the table were found


@dataclass(frozen=True, kw_only=True)
class WyckoffPattern:
    """Symmetry of a crystal in its own cell, in fractional coordinates; double precision."""

    space_group: int
    rotations: Int[np.ndarray, "G 3 3"]  # x -> R x + t
    translations: Float[np.ndarray, "G 3"]
    images: Int[np.ndarray, "G N"]  # operation g takes atom i to atom images[g, i]
    frac_coords: Float[np.ndarray, "N 3"]  # exactly symmetric; special positions are kept

    @classmethod
    def of(
        cls,
        atomic_numbers: Int[np.ndarray, "N"],
        frac_coords: Float[np.ndarray, "N 3"],
        lattice: Float[np.ndarray, "3 3"],
    ) -> "WyckoffPattern":
        """The pattern of a crystal.

        Raises:
            ValueError: If no symmetry is found, not even the identity.
        """
        import spglib

        try:
            found = spglib.get_symmetry_dataset((lattice, frac_coords, atomic_numbers), SYMPREC)
        except spglib.SpglibError as error:
            raise ValueError(str(error)) from None
        if found is None:
            raise ValueError(f"spglib finds no symmetry within {SYMPREC} Å")
        rotations, translations = exact_operations(found)
        coords, images = symmetrised(frac_coords, atomic_numbers, rotations, translations)
        return cls(
            space_group=int(found.number),
            rotations=rotations,
            translations=translations,
            images=images,
            frac_coords=coords,
        )

    @property
    def orbits(self) -> list[list[int]]:
        """Atoms that operations take to each other, by their first atom."""
        first = self.images.min(axis=0)
        return [np.flatnonzero(first == atom).tolist() for atom in np.unique(first)]

    def permuted(self, order: Int[np.ndarray, "N"]) -> "WyckoffPattern":
        """The same pattern with atom order[i] in place i."""
        place = np.argsort(order)
        return replace(
            self, images=place[self.images[:, order]], frac_coords=self.frac_coords[order]
        )


def exact_operations(found: object) -> tuple[np.ndarray, np.ndarray]:
    """Operations of a spglib dataset in the crystal's cell, free of its numerical noise.

    The standard operations of the space group, brought into the cell; those that then differ by a
    lattice vector of it, the centring translations of a conventional cell, are one.
    """
    import spglib

    standard = spglib.get_symmetry_from_database(found.hall_number)
    to_standard, shift = found.transformation_matrix, found.origin_shift
    back = np.linalg.inv(to_standard)
    rotations = np.rint(back @ standard["rotations"] @ to_standard).astype(int)
    moved = standard["rotations"] @ shift + standard["translations"] - shift
    translations = (moved @ back.T) % 1.0
    whole = np.concatenate([rotations.reshape(-1, 9), _rounded(translations)], axis=1)
    _, kept = np.unique(whole, axis=0, return_index=True)
    return rotations[kept], translations[kept]


def _rounded(translations: np.ndarray) -> np.ndarray:
    """Translations as whole numbers that tell different ones apart, 1 being 0."""
    return np.rint(translations * 1000).astype(int) % 1000


def symmetrised(
    frac_coords: np.ndarray,
    atomic_numbers: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates made exactly symmetric, and where each operation takes each atom.

    Raises:
        ValueError: If an operation does not map the atoms onto each other.
    """
    moved = frac_coords @ rotations.transpose(0, 2, 1) + translations[:, None]  # [G, N, 3]
    apart = moved[:, :, None] - frac_coords
    apart -= np.rint(apart)
    distance = np.linalg.norm(apart, axis=-1)
    distance[:, atomic_numbers[:, None] != atomic_numbers] = np.inf
    images = distance.argmin(-1)
    if not (np.sort(images, axis=-1) == np.arange(len(frac_coords))).all():
        raise ValueError("symmetry operations do not map the atoms onto each other")
    residual = np.take_along_axis(apart, images[..., None, None], axis=2)[:, :, 0]
    corrected = np.zeros_like(frac_coords)
    for image, rest in zip(images, residual, strict=True):
        corrected[image] += rest / len(images)
    return frac_coords + corrected, images


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Patterns of B crystals as projections onto what is symmetric, padded to N atoms."""

    origin: Float[Tensor, "B N 3"]  # where free coordinates are zero
    displacements: Float[Tensor, "B M M"]  # projection of all coordinates together: M = 3 N
    orbits: Float[Tensor, "B N N"]  # means over orbits
    metric: Float[Tensor, "B 9 9"]  # means of Gram matrices over rotations
    cell: LatticeChannel

    @classmethod
    def of(cls, patterns: Sequence[WyckoffPattern], cell: LatticeChannel) -> "Symmetry":
        """Projections for crystals with these patterns, on the device of the channel."""
        width = max(len(pattern.frac_coords) for pattern in patterns)

        def stacked(arrays: Iterable[np.ndarray], *shape: int) -> Tensor:
            rows = torch.zeros(len(patterns), *shape)
            for row, array in zip(rows, arrays, strict=True):
                row[tuple(map(slice, array.shape))] = torch.as_tensor(array)
            return rows.to(cell.mean.device)

        return cls(
            origin=stacked((one.frac_coords for one in patterns), width, 3),
            displacements=stacked(map(displacement_projection, patterns), 3 * width, 3 * width),
            orbits=stacked(map(orbit_means, patterns), width, width),
            metric=stacked(map(metric_means, patterns), 9, 9),
            cell=cell,
        )

    def noise(self, white: Callable[[], Latent]) -> Callable[[], Latent]:
        """White noise made the same on all copies of an atom; the cell's is left as it is."""
        size = (self.orbits > 0).sum(-1, keepdim=True).sqrt()

        def symmetric() -> Latent:
            noise = self.projected(white())
            return replace(noise, types=size * noise.types, coords=size * noise.coords)

        return symmetric

    def start(self, noise: Latent) -> Latent:
        """Symmetric noise around the positions of the pattern."""
        return replace(noise, coords=wrap(noise.coords + self.origin))

    def allowed(self, allowed: Bool[Tensor, "B N Z"]) -> Bool[Tensor, "B N Z"]:
        """What every atom of an orbit may be; anything on padding."""
        return self.orbits @ (~allowed).float() < 1e-4

    def corrected(self, step: Latent, noisy: Latent, sigma: float) -> Latent:
        """A step from noisy to denoised that ends at a symmetric crystal."""
        num_atoms = noisy.mask.sum(-1)
        # In double precision: the cells of first guesses can be flat.
        guess = self.cell.decode((noisy.shape + step.shape).double(), num_atoms)
        shape = self.cell.encode(self._lattice(guess), num_atoms).to(noisy.shape)
        return replace(self.projected(step), shape=shape - noisy.shape)

    def difference(
        self, short_way: Callable[[Latent, Latent], Latent]
    ) -> Callable[[Latent, Latent], Latent]:
        """A difference of symmetric crystals; rounding to the nearest image may have broken it."""
        return lambda a, b: self.projected(short_way(a, b))

    def projected(self, step: Latent) -> Latent:
        """The part of a step in types and coordinates that keeps the pattern."""
        flat = step.coords.flatten(1).unsqueeze(-1)
        return replace(
            step,
            types=self.orbits @ step.types,
            coords=(self.displacements @ flat).view_as(step.coords),
        )

    def _lattice(self, lattice: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 3"]:
        """The symmetric lattice whose Gram matrix is the mean over the operations."""
        gram = (lattice @ lattice.mT).flatten(1).unsqueeze(-1)
        return cholesky_lattice((self.metric.to(gram) @ gram).view_as(lattice))


def displacement_projection(pattern: WyckoffPattern) -> np.ndarray:
    """Orthogonal projection [3N, 3N] onto displacements that keep the pattern.

    The mean over the group projects onto them too, but along directions that are oblique in a cell
    that is not orthogonal; noise that is white in fractional coordinates needs the orthogonal one.
    """
    count = len(pattern.frac_coords)
    mean = np.zeros((count, 3, count, 3))
    for rotation, image in zip(pattern.rotations, pattern.images, strict=True):
        mean[image, :, np.arange(count), :] += rotation / len(pattern.rotations)
    left, size, _ = np.linalg.svd(mean.reshape(3 * count, 3 * count))
    basis = left[:, size > 0.5]  # a projection: its non-zero singular values are at least 1
    return basis @ basis.T


def orbit_means(pattern: WyckoffPattern) -> np.ndarray:
    """Matrix [N, N] that replaces values by their means over orbits."""
    first = pattern.images.min(axis=0)
    same = (first[:, None] == first).astype(float)
    return same / same.sum(-1, keepdims=True)


def metric_means(pattern: WyckoffPattern) -> np.ndarray:
    """Matrix [9, 9] that takes a Gram matrix G to the mean of Rᵀ G R."""
    return np.mean([np.kron(one.T, one.T) for one in pattern.rotations], axis=0)
