"""Atom types: Gaussian noise on element descriptors, denoised by Bayes' rule over the elements.

Each element is a unit vector (`elements.element_descriptors`). The noisy vector x of one orbit has
the likelihood N(x; e_Z, sigma²) under every element Z; the network supplies what the likelihood
cannot know, the log prior of Z given the rest of the crystal. Their sum is a posterior, and

    denoised = sum_Z p(Z | x, crystal) e_Z

so at vanishing noise the denoiser is exact whatever the network says, and forbidding elements is
exact too: their posterior is zero at every step. (Score interpolation: Dieleman et al. 2022,
arXiv 2211.15089.)
"""

import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import element_descriptors
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.shapes import Bool, Float, Int


def encode(atomic_numbers: Int[Tensor, "B O"]) -> Float[Tensor, "B O D"]:
    """Unit descriptor of every orbit; zero on padding."""
    return element_descriptors().to(atomic_numbers.device)[atomic_numbers]


def noise(normal: Float[Tensor, "B O D"], templates: Templates) -> Float[Tensor, "B O D"]:
    """Noise of unit size; orbits of one class share the noise of their element."""
    return templates.shared(normal) * templates.mask.unsqueeze(-1)


def posterior_logits(
    prior_logits: Float[Tensor, "B O Z"],
    noisy: Float[Tensor, "B O D"],
    sigma: Float[Tensor, "B"],
    allowed: Bool[Tensor, "*P Z"],
) -> Float[Tensor, "B O Z"]:
    """Unnormalised log posterior over elements; those not allowed (at all, or here) get -inf.

    Descriptors have length 1: the Gaussian log likelihood is `x . e_Z / sigma²` up to a constant.
    """
    likelihood = noisy @ element_descriptors().to(noisy).T / (sigma**2)[:, None, None]
    return (prior_logits.float() + likelihood).masked_fill(~allowed, -torch.inf)


def best_guess(
    noisy: Float[Tensor, "B O D"], sigma: Float[Tensor, "B"], allowed: Bool[Tensor, "Z"]
) -> Float[Tensor, "B O D"]:
    """Posterior mean descriptor of each orbit by itself, as if all elements were equally likely."""
    flat_prior = noisy.new_zeros(*noisy.shape[:2], len(allowed))
    return denoise(posterior_logits(flat_prior, noisy, sigma, allowed))


def denoise(logits: Float[Tensor, "B O Z"]) -> Float[Tensor, "B O D"]:
    """Posterior mean descriptor."""
    return torch.softmax(logits, dim=-1) @ element_descriptors().to(logits)


def displacement(
    logits: Float[Tensor, "B O Z"], noisy: Float[Tensor, "B O D"], templates: Templates
) -> Float[Tensor, "B O D"]:
    """Denoised minus noisy descriptors from the log posterior; 0 on padding."""
    return (denoise(logits) - noisy) * templates.mask.unsqueeze(-1)


def loss(
    logits: Float[Tensor, "B O Z"], atomic_numbers: Int[Tensor, "B O"], mask: Bool[Tensor, "B O"]
) -> Float[Tensor, "B"]:
    """Cross-entropy of the true elements in nats, mean over the orbits of each crystal."""
    log_p = torch.log_softmax(logits, dim=-1).gather(-1, atomic_numbers.unsqueeze(-1)).squeeze(-1)
    return -torch.where(mask, log_p, 0.0).sum(-1) / mask.sum(-1)
