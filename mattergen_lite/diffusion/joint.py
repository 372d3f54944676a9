"""The three channels together: crystals as points in noise space, and the way there and back.

Each channel has the same verbs: `encode` a crystal, draw `noise` of unit size, the `displacement`
from noisy to denoised, and its `loss`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mattergen_lite.chemistry.elements import DESCRIPTOR_DIM, MAX_ATOMIC_NUMBER, element_descriptors
from mattergen_lite.diffusion import atom_types, coordinates, lattice
from mattergen_lite.diffusion.lattice import LatticeChannel
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates
from mattergen_lite.tensors.crystal import Batch, Prediction
from mattergen_lite.tensors.geometry import wrap
from mattergen_lite.tensors.shapes import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Step(Batch):
    """What is added to a `State`: noise, or the way from a noisy crystal to its denoised estimate.

    The tangent space of the states: free coordinates are not wrapped.
    """

    types: Float[Tensor, "B O D"]
    free_coords: Float[Tensor, "B O 3"]
    cell: Float[Tensor, "B 6"]


@dataclass(frozen=True, kw_only=True)
class State:
    """B crystals, clean or noisy, in the coordinates that are diffused."""

    types: Float[Tensor, "B O D"]  # element descriptor of each orbit
    free_coords: Float[Tensor, "B O 3"]  # of the representatives, on the unit torus
    cell: Float[Tensor, "B 6"]  # standardised free numbers of the cell

    def shifted(self, step: Step, scale: Float[Tensor, ""] | float) -> "State":
        """This point moved along `step`, coordinates re-wrapped."""
        return replace(
            self,
            types=self.types + scale * step.types,
            free_coords=wrap(self.free_coords + scale * step.free_coords),
            cell=self.cell + scale * step.cell,
        )


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Per-crystal losses of the three channels."""

    types: Float[Tensor, "B"]
    coords: Float[Tensor, "B"]
    lattice: Float[Tensor, "B"]


class JointDiffusion(nn.Module):
    """One shared sigma for atom types, free coordinates and free numbers of the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.lattice = LatticeChannel()
        allowed = torch.ones(MAX_ATOMIC_NUMBER + 1, dtype=torch.bool)
        allowed[0] = False
        self.register_buffer("allowed_elements", allowed)

    def encode(self, crystals: OrbitCrystals) -> State:
        """Noise-free point of each crystal, its own origin."""
        templates = crystals.templates
        return State(
            types=atom_types.encode(crystals.atomic_numbers),
            free_coords=coordinates.encode(templates),
            cell=self.lattice.encode(crystals.lattice, templates.space_group, templates.num_atoms),
        )

    def noise(self, normal: Step, templates: Templates) -> Step:
        """Noise of unit size in each channel from standard normal numbers."""
        return Step(
            types=atom_types.noise(normal.types, templates),
            free_coords=coordinates.noise(normal.free_coords, templates),
            cell=lattice.noise(normal.cell, templates.space_group),
        )

    def corrupt(self, clean: State, sigma: Float[Tensor, "B"], noise: Step) -> State:
        """Clean crystals at noise level sigma."""
        level = sigma[:, None, None]
        return State(
            types=clean.types + level * noise.types,
            free_coords=wrap(clean.free_coords + level * noise.free_coords),
            cell=clean.cell + sigma[:, None] * noise.cell,
        )

    def prior(self, noise: Step, sigma: float) -> State:
        """Starting points of sampling: pure noise of standard deviation sigma."""
        origin = State(
            types=torch.zeros_like(noise.types),
            free_coords=torch.zeros_like(noise.free_coords),
            cell=torch.zeros_like(noise.cell),
        )
        return origin.shifted(noise, sigma)

    def losses(
        self,
        prediction: Prediction,
        crystals: OrbitCrystals,
        clean: State,
        noisy: State,
        sigma: Float[Tensor, "B"],
    ) -> Losses:
        """Denoising losses per crystal and channel: small crystals count like large ones."""
        templates = crystals.templates
        logits = self.posterior_logits(prediction, noisy, sigma, self.allowed_elements, templates)
        return Losses(
            types=atom_types.loss(logits, crystals.atomic_numbers, templates.mask),
            coords=coordinates.loss(
                prediction.coords, clean.free_coords, noisy.free_coords, sigma, templates
            ),
            lattice=lattice.loss(
                prediction.cell, clean.cell, noisy.cell, sigma, templates.space_group
            ),
        )

    def type_guess(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates
    ) -> Float[Tensor, "B O D"]:
        """Descriptor of every orbit as far as it can be told without the rest of the crystal."""
        guess = atom_types.best_guess(noisy.types, sigma, self.allowed_elements)
        return guess * templates.mask.unsqueeze(-1)

    def lattice_guess(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates
    ) -> Float[Tensor, "B 3 3"]:
        """Lattice in Å with which distances are measured under noise."""
        guess = self.lattice.best_guess(noisy.cell, sigma)
        return self.lattice.decode(guess, templates.space_group, templates.num_atoms)

    def posterior_logits(
        self,
        prediction: Prediction,
        noisy: State,
        sigma: Float[Tensor, "B"],
        allowed: Bool[Tensor, "*P Z"],
        templates: Templates,
    ) -> Float[Tensor, "B O Z"]:
        """Log posterior over the elements allowed for all orbits, or for each.

        Orbits of one class have one prior, the mean over them; one noisy vector speaks for all.
        Padding rows are finite but meaningless.
        """
        prior = templates.class_mean(prediction.element_logits)
        return atom_types.posterior_logits(prior, noisy.types, sigma, allowed)

    def displacement(
        self,
        prediction: Prediction,
        noisy: State,
        sigma: Float[Tensor, "B"],
        allowed: Bool[Tensor, "*P Z"],
        templates: Templates,
    ) -> Step:
        """Denoised minus noisy, channel by channel: `sigma² score`, the way sampling goes."""
        logits = self.posterior_logits(prediction, noisy, sigma, allowed, templates)
        return Step(
            types=atom_types.displacement(logits, noisy.types, templates),
            free_coords=coordinates.displacement(prediction.coords, sigma, templates),
            cell=lattice.displacement(prediction.cell, noisy.cell, sigma, templates.space_group),
        )

    def decode(
        self, state: State, templates: Templates, allowed: Bool[Tensor, "*P Z"] | None = None
    ) -> OrbitCrystals:
        """Crystals: nearest allowed element (default: of those seen), representatives, lattice."""
        allowed = self.allowed_elements if allowed is None else allowed.to(state.types.device)
        similarity = state.types @ element_descriptors().to(state.types).T
        nearest = similarity.masked_fill(~allowed, -torch.inf).argmax(-1)
        return OrbitCrystals(
            templates=replace(templates, origin=templates.representatives(state.free_coords)),
            atomic_numbers=nearest * templates.mask,
            lattice=self.lattice.decode(state.cell, templates.space_group, templates.num_atoms),
        )


def draw_noise(templates: Templates, rng: torch.Generator, total: int | None = None) -> Step:
    """Standard normal numbers for a whole batch from one generator (training).

    Args:
        templates: Of some crystals of the batch, padded as wide as all of it.
        rng: Gives the numbers of all crystals of the batch.
        total: Crystals of the batch; None: those at hand.
    """
    count, width = total or len(templates), templates.mask.shape[1]

    def normal(*size: int) -> Tensor:
        return torch.randn(count, *size, generator=rng, device=rng.device)

    return Step(types=normal(width, DESCRIPTOR_DIM), free_coords=normal(width, 3), cell=normal(6))
