"""Measures how close known crystals are to a target: samples start from close ones.

Which elements and sites go together is half of what a property depends on, and that is what a
template brings along: hardly any template of an alloy makes an insulator.
"""

import torch
from torch import Tensor

from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.tensors.shapes import Float

# Standard deviations of the property, over which the weight of a crystal falls by a factor of e.
WIDTH = 0.25
# Weight of all crystals whose property is not known together, against all those where it is: few
# have elastic moduli, and the others would outweigh those that are close.
WEIGHT_OF_UNKNOWN = 0.1
FARTHEST = 50.0  # widths beyond which all are as far, so that no weight is rounded to zero


def closeness(values: Float[Tensor, "R"], target: PropertyTarget) -> Float[Tensor, "R"]:
    """Weigh crystals by how close a property of each is to a target: exp(-d / `WIDTH`).

    The distance d is that to the range of the target, on the property's standardised scale. Values
    are NaN where unknown; the mean weight of the others is 1.
    """
    asked = torch.tensor([target.low, target.high], dtype=torch.float64)
    low, high = target.definition.normalise(asked)
    place = target.definition.normalise(values.double())
    distance = torch.maximum(low - place, place - high).clamp(min=0)
    # Against the closest one, so that a target beyond all that is known has crystals, too.
    known = ~values.isnan()
    if not known.any():
        return torch.ones_like(distance)
    widths = (distance - distance[known].min()) / WIDTH
    weights = torch.exp(-widths.clamp(max=FARTHEST))
    weights /= weights[known].mean()
    unknown = WEIGHT_OF_UNKNOWN * known.sum() / (~known).sum().clamp(min=1)
    return torch.where(known, weights, unknown)
