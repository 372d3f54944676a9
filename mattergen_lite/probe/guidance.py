"""Guidance by a probe: the gradient of its likelihood added to what the model says."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mattergen_lite.diffusion import coordinates
from mattergen_lite.diffusion.joint import State, Step
from mattergen_lite.diffusion.lattice import free_numbers
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.probe.probe import Probe, Regression
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.shapes import Float

MAX_STEP = 3.0  # standard deviations of the noise that steering adds at most to a displacement


@dataclass(frozen=True, kw_only=True)
class ProbeSteering:
    """What a sampler adds to the model's own displacement: guidance · sigma² ∇ log p(y | x)."""

    model: CrystalDiffusion
    regression: Regression
    property: str
    target: float  # in the unit of the property
    value: float  # the same, standardised
    guidance: float

    def __call__(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates, step: Step
    ) -> Step:
        """The displacement `step` from `noisy`, steered."""
        if self.guidance == 0:
            return step
        gradient = self.gradient(noisy, sigma, templates)
        scale = self.guidance * sigma**2
        # Where the likelihood is sharper than the noise, all of the step would overshoot, more each
        # time: it is cut to a few standard deviations of the noise.
        length = scale * _length(gradient, templates)
        scale = scale * (MAX_STEP * sigma / length.clamp(min=1e-12)).clamp(max=1)
        return Step(
            types=step.types + scale[:, None, None] * gradient.types,
            free_coords=step.free_coords + scale[:, None, None] * gradient.free_coords,
            cell=step.cell + scale[:, None] * gradient.cell,
        )

    def gradient(self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates) -> Step:
        """Gradient of log p(y | noisy) through the network, with respect to the noisy crystals.

        A step of one cell fraction along a free direction changes its coordinate by 1/|b|, hence
        the factor 1/|b|² between the gradient and the step. Orbits of one class move together.
        """
        leaves = [
            x.detach().clone().requires_grad_()
            for x in (noisy.types, noisy.free_coords, noisy.cell)
        ]
        free = State(types=leaves[0], free_coords=leaves[1], cell=leaves[2])
        with torch.enable_grad():
            features = self.model.features(free, sigma, templates)
            error = self.value - self.regression.mean(features, sigma)
            log_likelihood = -0.5 * error**2 / self.regression.variance_at(sigma)
            types, free_coords, cell = torch.autograd.grad(log_likelihood.sum(), leaves)
        return Step(
            types=templates.class_sum(types),
            free_coords=free_coords * coordinates.unit_spread(templates) ** 2,
            cell=cell * free_numbers(templates.space_group),
        )


def _length(step: Step, templates: Templates) -> Float[Tensor, "B"]:
    """Length of a step in standard deviations of noise of unit size."""
    types = step.types.square().sum((1, 2))
    coords = (step.free_coords * templates.basis_length).square().sum((1, 2))
    return (types + coords + step.cell.square().sum(-1)).sqrt()


def steering(
    model: CrystalDiffusion, probes: Sequence[Probe], targets: Sequence[PropertyTarget]
) -> tuple[ProbeSteering, ...]:
    """Steer samples of `model` towards the targets of the probed properties; guidance 0 does not.

    Raises:
        ValueError: If a probe has no target, or a range for one.
    """
    device = model.device
    steered = []
    for probe in probes:
        probe.check_width(model)
        prop = probe.definition
        target = next(
            (candidate for candidate in targets if candidate.definition.name == prop.name), None
        )
        if target is None:
            raise ValueError(
                f"the probe of {prop.name!r} has no target: add --condition {prop.name}=..."
            )
        if target.low != target.high:
            raise ValueError(f"a probe steers towards a value, expected {prop.name}=<number>")
        value = prop.normalise(torch.tensor(target.low)).item()
        steered.append(
            ProbeSteering(
                model=model,
                regression=probe.regression.to(device),
                property=prop.name,
                target=target.low,
                value=value,
                guidance=target.guidance,
            )
        )
    return tuple(steered)
