"""The model as solvers see it: guided, within what is allowed, true to what is known."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from mattergen_lite.diffusion.joint import State, Step
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystalBatch
from mattergen_lite.properties import Conditions
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.sampling.inpainting import KnownSites
from mattergen_lite.sampling.solvers import Displacement
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.crystal import Prediction
from mattergen_lite.tensors.shapes import Float

# Noise levels between which an auxiliary target is exaggerated. Above nothing is decided yet; below
# elements are, and exaggeration costs calls without changing the energy.
AUXILIARY_INTERVAL = (0.2, 1.0)

Calls = Sequence[tuple[float, Conditions | None]]  # weights of network calls, and their conditions


@runtime_checkable
class Steering(Protocol):
    """Something that bends the model's displacement towards a target, such as a probe."""

    property: str
    target: float  # in the unit of the property

    def __call__(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates, step: Step
    ) -> Step:
        """The model's displacement `step` from `noisy`, steered."""


def guided_calls(
    targets: Sequence[PropertyTarget], conditions: Conditions | None
) -> list[tuple[float, Conditions | None]]:
    """Weights and conditions of the network calls whose weighted sum is the guided prediction.

    Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) composed over properties (Liu
    et al. 2022, arXiv 2206.01714, eq. 11): `uncond + sum_g w_g (cond_g - uncond)`, where g are the
    groups of properties that share a weight. A call of weight 0 is not made: guidance 1 or 0 takes
    one call.
    """
    weights = sorted({target.guidance for target in targets} - {0.0})
    groups = {w: [t.definition.name for t in targets if t.guidance == w] for w in weights}
    calls = [(weight, conditions.only(names)) for weight, names in groups.items()]
    unconditional = 1.0 - sum(weights)
    return calls if calls and abs(unconditional) < 1e-9 else [*calls, (unconditional, None)]


def guided_calls_by_level(
    properties: Sequence[PropertyTarget],
    auxiliary_targets: Sequence[PropertyTarget],
    conditions: Conditions | None,
) -> Callable[[float], Calls]:
    """The calls of `guided_calls` as a function of the noise level.

    Outside `AUXILIARY_INTERVAL` auxiliary targets count with a weight of at most 1, which takes no
    call more (Kynkäänniemi et al. 2024, arXiv 2404.07724), unless a property has the same weight:
    then the joint call takes none.
    """
    inside = guided_calls((*properties, *auxiliary_targets), conditions)
    shared = {target.guidance for target in properties}
    plain = [
        auxiliary
        if auxiliary.guidance in shared
        else replace(auxiliary, guidance=min(auxiliary.guidance, 1.0))
        for auxiliary in auxiliary_targets
    ]
    outside = guided_calls((*properties, *plain), conditions)
    low, high = AUXILIARY_INTERVAL
    return lambda sigma: inside if low <= sigma <= high else outside


def guided_displacement(
    model: CrystalDiffusion,
    batch: PartialCrystalBatch,
    calls: Callable[[float], Calls],
    steering: Sequence[Steering],
) -> Displacement:
    """The model as solvers see it: guided, within the allowed elements, true where it is known.

    Predictions are mixed as they leave the network, on element logits, so that types remain a
    distribution over allowed elements. `calls` gives those of the network at a noise level.
    """
    templates = batch.crystals.templates
    known = _known_parts(model, batch)

    def displacement(x: State, sigma: float) -> Step:
        level = x.cell.new_full((len(x.cell),), sigma)
        weights, asked = zip(*calls(sigma), strict=True)
        predictions = model.predict_each(x, level, templates, asked)
        combined = Prediction.combined(list(zip(weights, predictions, strict=True)))
        step = model.diffusion.displacement(combined, x, level, batch.allowed, templates)
        for steer in steering:
            step = steer(x, level, templates, step)
        return known.corrected(step, x, sigma) if known else step

    return displacement


def _known_parts(model: CrystalDiffusion, batch: PartialCrystalBatch) -> KnownSites | None:
    """Which positions and cells the partial crystals fix; None if they fix nothing."""
    if not (batch.known.any() or batch.fixed_cell.any()):
        return None
    return KnownSites(
        templates=batch.crystals.templates,
        orbits=batch.known,
        cell=model.diffusion.encode(batch.crystals).cell,
        fixed_cell=batch.fixed_cell,
    )
