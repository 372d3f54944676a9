"""The three channels together: a crystal as a point in noise space, and the way there and back."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mattergen_lite.crystal import CrystalBatch, Prediction, Share
from mattergen_lite.diffusion import atom_types, frac_coords, lattice
from mattergen_lite.diffusion.lattice import LatticeChannel
from mattergen_lite.elements import DESCRIPTOR_DIM, MAX_ATOMIC_NUMBER, element_descriptors
from mattergen_lite.geometry import wrap
from mattergen_lite.shapes import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Latent:
    """B crystals, clean or noisy, in the coordinates that are diffused."""

    types: Float[Tensor, "B N D"]  # element descriptors
    coords: Float[Tensor, "B N 3"]  # fractional, wrapped
    shape: Float[Tensor, "B 6"]  # standardised lattice shape
    mask: Bool[Tensor, "B N"]

    def shifted(self, step: "Latent", scale: Float[Tensor, ""] | float) -> "Latent":
        """This point moved along `step`, coordinates re-wrapped."""
        return replace(
            self,
            types=self.types + scale * step.types,
            coords=wrap(self.coords + scale * step.coords),
            shape=self.shape + scale * step.shape,
        )


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Per-crystal losses of the three channels."""

    types: Float[Tensor, "B"]
    coords: Float[Tensor, "B"]
    lattice: Float[Tensor, "B"]


class JointDiffusion(nn.Module):
    """One shared sigma for atom types, fractional coordinates and lattice shape."""

    def __init__(self) -> None:
        super().__init__()
        self.lattice = LatticeChannel()
        allowed = torch.ones(MAX_ATOMIC_NUMBER + 1, dtype=torch.bool)
        allowed[0] = False
        self.register_buffer("allowed_elements", allowed)

    def fit(self, crystals: CrystalBatch) -> None:
        """Learn lattice statistics and the set of elements from training crystals."""
        self.lattice.fit(crystals.lattice, crystals.num_atoms)
        seen = torch.bincount(
            crystals.atomic_numbers[crystals.mask], minlength=MAX_ATOMIC_NUMBER + 1
        )
        self.allowed_elements.copy_(seen > 0)

    def encode(self, crystals: CrystalBatch) -> Latent:
        """Noise-free point of each crystal."""
        return Latent(
            types=atom_types.encode(crystals.atomic_numbers),
            coords=crystals.frac_coords,
            shape=self.lattice.encode(crystals.lattice, crystals.num_atoms),
            mask=crystals.mask,
        )

    def corrupt(self, clean: Latent, sigma: Float[Tensor, "B"], noise: Latent) -> Latent:
        """Clean crystals at noise level sigma; padding stays zero."""
        atoms = clean.mask.unsqueeze(-1)
        return replace(
            clean,
            types=atom_types.corrupt(clean.types, sigma, noise.types) * atoms,
            coords=frac_coords.corrupt(clean.coords, sigma, noise.coords) * atoms,
            shape=lattice.corrupt(clean.shape, sigma, noise.shape),
        )

    def prior(self, noise: Latent, sigma: float) -> Latent:
        """Starting points of sampling: pure noise of standard deviation sigma."""
        origin = replace(
            noise,
            types=torch.zeros_like(noise.types),
            coords=torch.zeros_like(noise.coords),
            shape=torch.zeros_like(noise.shape),
        )
        return self.corrupt(origin, noise.shape.new_full((len(noise.mask),), sigma), noise)

    def losses(
        self,
        prediction: Prediction,
        crystals: CrystalBatch,
        clean: Latent,
        noisy: Latent,
        sigma: Float[Tensor, "B"],
    ) -> Losses:
        """Denoising losses per crystal and channel: small crystals count like large ones."""
        logits = self.posterior_logits(prediction, noisy, sigma, self.allowed_elements)
        return Losses(
            types=atom_types.loss(logits, crystals.atomic_numbers, crystals.mask),
            coords=frac_coords.loss(
                prediction.coords, clean.coords, noisy.coords, sigma, clean.mask
            ),
            lattice=lattice.loss(prediction.shape, clean.shape, noisy.shape, sigma),
        )

    def type_guess(self, noisy: Latent, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B N D"]:
        """Descriptor of every atom as far as it can be told without the rest of the crystal."""
        atoms = noisy.mask.unsqueeze(-1)
        return atom_types.best_guess(noisy.types, sigma, self.allowed_elements) * atoms

    def lattice_guess(self, noisy: Latent, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B 3 3"]:
        """Lattice in Å with which distances are measured under noise."""
        guess = self.lattice.best_guess(noisy.shape, sigma)
        return self.lattice.decode(guess, noisy.mask.sum(-1))

    def posterior_logits(
        self,
        prediction: Prediction,
        noisy: Latent,
        sigma: Float[Tensor, "B"],
        allowed: Bool[Tensor, "*P Z"],
    ) -> Float[Tensor, "B N Z"]:
        """Log posterior over the elements allowed for all atoms, or for each.

        Padding rows are finite but meaningless.
        """
        return atom_types.posterior_logits(prediction.element_logits, noisy.types, sigma, allowed)

    def displacement(
        self,
        prediction: Prediction,
        noisy: Latent,
        sigma: Float[Tensor, "B"],
        allowed: Bool[Tensor, "*P Z"],
    ) -> Latent:
        """Denoised minus noisy, channel by channel: `sigma² score`, the way sampling goes."""
        logits = self.posterior_logits(prediction, noisy, sigma, allowed)
        atoms = noisy.mask.unsqueeze(-1)
        return replace(
            noisy,
            types=(atom_types.denoise(logits) - noisy.types) * atoms,
            coords=frac_coords.displacement(prediction.coords, sigma, noisy.mask),
            shape=self.lattice.denoise(prediction.shape, noisy.shape, sigma) - noisy.shape,
        )

    def decode(self, latent: Latent, allowed: Bool[Tensor, "*P Z"] | None = None) -> CrystalBatch:
        """Nearest allowed element (default: of those seen), wrapped coordinates, lattice in Å."""
        allowed = self.allowed_elements if allowed is None else allowed.to(latent.mask.device)
        similarity = latent.types @ element_descriptors().to(latent.types).T
        nearest = similarity.masked_fill(~allowed, -torch.inf).argmax(-1)
        return CrystalBatch(
            atomic_numbers=nearest * latent.mask,
            frac_coords=wrap(latent.coords) * latent.mask.unsqueeze(-1),
            lattice=self.lattice.decode(latent.shape, latent.mask.sum(-1)),
            mask=latent.mask,
        )


def draw_noise(
    mask: Bool[Tensor, "B N"], rng: torch.Generator, share: Share | None = None
) -> Latent:
    """Standard normal noise for a whole batch from one generator (training).

    Args:
        mask: Of the crystals at hand, padded as wide as the global batch.
        rng: In the same state in every process.
        share: Which crystals of the global batch these are; None: all.
    """
    share = share or Share.whole(len(mask))

    def normal(*size: int) -> Tensor:
        return torch.randn(share.total, *size, generator=rng, device=rng.device)[share.rows]

    width = mask.shape[1]
    return Latent(
        types=normal(width, DESCRIPTOR_DIM), coords=normal(width, 3), shape=normal(6), mask=mask
    )
