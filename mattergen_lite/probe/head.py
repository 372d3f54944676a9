"""Reads a property of finished crystals from the frozen network and the composition.

A few small perceptrons, averaged, read the pooled hidden state of the frozen network with almost no
noise (`Denoiser.features`), the share of every element, and mean, spread, least and most of the
elements' descriptors. Where many labels are exactly zero, as band gaps of metals, a first output
says whether the value is above zero; the second one, fitted to those above, says how much.

A crystal is outside the domain if it holds an element with few labels, or if its features lie
further from the mean of the labelled ones than all but one in a thousand of those do.
On disk a head is a folder: `head.safetensors`, weights in half precision, and `head.yaml`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import silu

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, element_descriptors
from mattergen_lite.config import PropertyConfig, Section, read_yaml, write_yaml
from mattergen_lite.io.records import LearnedValue
from mattergen_lite.model import CrystalDiffusion, write_weights
from mattergen_lite.probe.probe import ModelIdentity, clean_features, of_weights
from mattergen_lite.properties import Property
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.shapes import Bool, Float

WEIGHTS = "head.safetensors"
CONFIG = "head.yaml"
SIGMA = 0.01  # noise level at which the network reads: crystals look clean
MAX_INPUT = 6.0  # standard deviations at which inputs are cut


class HeadError(Section):
    """Errors on held-out crystals, in the unit of the property."""

    num_crystals: int
    mae: float  # of all
    mae_zero: float  # where zero is predicted; the same as `mae` if there is no classifier
    mae_positive: float  # where more is
    accuracy: float | None  # share of crystals of which it is right whether they are above zero
    mae_of_median: float  # of predicting the median of the labels for every crystal
    r2: float


class GeneratedError(Section):
    """Errors of predictions below a value, and above the bin before, for generated crystals.

    They are differences from the methods that confirm properties
    (`scripts/measure_confirmations.py`).
    """

    below: float | None  # in the unit of the property; None in the last bin
    num_crystals: int
    mae: float
    expected: float  # mean of the confirmed values


class HeadConfig(Section):
    """What a head predicts, how well, and from which model's features."""

    prop: PropertyConfig
    model: ModelIdentity
    has_zeros: bool  # a classifier says first whether the value is above zero
    num_labels: int
    held_out: HeadError
    max_distance: float  # of features from the mean of the labelled ones, beyond: outside domain
    generated: tuple[GeneratedError, ...] = ()  # ascending; none if not measured


@dataclass(frozen=True, kw_only=True)
class Perceptrons:
    """E perceptrons of two hidden layers of H units, on I standardised inputs."""

    mean: Float[Tensor, "I"]
    spread: Float[Tensor, "I"]
    elements: Bool[Tensor, "Z"]  # with enough labels
    weight_1: Float[Tensor, "E I H"]
    bias_1: Float[Tensor, "E 1 H"]
    weight_2: Float[Tensor, "E H H"]
    bias_2: Float[Tensor, "E 1 H"]
    weight_3: Float[Tensor, "E H 2"]
    bias_3: Float[Tensor, "E 1 2"]

    def standardised(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "B I"]:
        """Inputs of mean 0 and spread 1, cut at `MAX_INPUT`."""
        return ((inputs - self.mean) / self.spread).clamp(-MAX_INPUT, MAX_INPUT)

    def outputs(self, standardised: Float[Tensor, "B I"]) -> Float[Tensor, "E B 2"]:
        """Log-odds of a value above zero, and the value, standardised."""
        hidden = silu(standardised @ self.weight_1 + self.bias_1)
        hidden = silu(hidden @ self.weight_2 + self.bias_2)
        return hidden @ self.weight_3 + self.bias_3


@dataclass(frozen=True, kw_only=True)
class Head:
    """A property read from the features of a model; what `scripts/fit_predictors.py` makes."""

    config: HeadConfig
    net: Perceptrons

    @property
    def definition(self) -> Property:
        """Name, unit and normalisation of the property."""
        return self.config.prop

    def predict(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "B"]:
        """The property in its unit; exactly 0 where the classifier says so."""
        with torch.no_grad():
            logits, values = self.net.outputs(self.net.standardised(inputs)).mean(0).unbind(-1)
        predicted = self.definition.within_reason(self.definition.denormalise(values))
        return torch.where(logits > 0, predicted, 0.0) if self.config.has_zeros else predicted

    def is_inside(self, inputs: Float[Tensor, "B I"]) -> Bool[Tensor, "B"]:
        """Whether crystals are within what the labels cover."""
        shares = inputs[:, -num_chemical() :][:, :MAX_ATOMIC_NUMBER]
        known = ~((shares > 0) & ~self.net.elements).any(-1)
        return known & (distance(self.net.standardised(inputs)) <= self.config.max_distance)

    def read(self, model: CrystalDiffusion, crystals: OrbitCrystals) -> list[LearnedValue]:
        """The property of finished crystals, with the mean error of such predictions."""
        inputs = head_inputs(model, crystals)
        values, inside = self.predict(inputs).tolist(), self.is_inside(inputs).tolist()
        return [self._learned(*pair) for pair in zip(values, inside, strict=True)]

    def _learned(self, value: float, is_inside: bool) -> LearnedValue:
        """A prediction with its error: that for generated crystals, where it is measured."""
        for limit in self.config.generated:
            if limit.below is None or value < limit.below:
                return LearnedValue(value, limit.mae, is_inside, limit.expected)
        error = self.config.held_out
        return LearnedValue(value, error.mae_positive if value else error.mae_zero, is_inside)

    def save(self, folder: Path) -> None:
        """Write the two files."""
        halved = {n: v.half() if "_" in n else v for n, v in vars(self.net).items()}
        write_weights(halved, folder / WEIGHTS)
        write_yaml(self.config, folder / CONFIG)

    @classmethod
    def load(cls, folder: Path, weights_sha256: str) -> "Head":
        """Read a head for the model with these weights; nothing in it is executed.

        Raises:
            ValueError: If there is none, a file is corrupt or it belongs to another model.
        """
        config = HeadConfig.parse(read_yaml(folder / CONFIG))
        config.model.check(f"head {folder}", weights_sha256)
        (net,) = of_weights([Perceptrons], "head", folder / WEIGHTS)
        return cls(config=config, net=net)

    def text(self) -> str:
        """One line about the errors and the domain."""
        prop, error = self.config.prop, self.config.held_out
        zeros = f"; zero or not: {error.accuracy:.1%} right" if error.accuracy is not None else ""
        return (
            f"{prop.name}: trained on {self.config.num_labels:,} crystals; mean error on "
            f"{error.num_crystals:,} others {error.mae:.3g} {prop.unit}, of always predicting the "
            f"median {error.mae_of_median:.3g}{zeros}"
        )


def distance(standardised: Float[Tensor, "B I"]) -> Float[Tensor, "B"]:
    """Root mean square of the network's features, in standard deviations."""
    return standardised[:, : -num_chemical()].square().mean(-1).sqrt()


def head_inputs(model: CrystalDiffusion, crystals: OrbitCrystals) -> Float[Tensor, "B I"]:
    """What a head reads of finished crystals."""
    parts = [
        torch.cat([features.cpu(), chemical_inputs(crystals[part])], dim=-1)
        for part, features in clean_features(model, crystals, SIGMA)
    ]
    return torch.cat(parts)


def chemical_inputs(crystals: OrbitCrystals) -> Float[Tensor, "B C"]:
    """Shares of the elements; mean, spread, least and most of their descriptors."""
    templates = crystals.templates
    weights = templates.multiplicity / templates.num_atoms.unsqueeze(-1)
    shares = weights.new_zeros(len(crystals), MAX_ATOMIC_NUMBER + 1)
    shares = shares.scatter_add(1, crystals.atomic_numbers, weights)[:, 1:]
    table = element_descriptors()[1:]
    mean = shares @ table
    spread = (shares @ table.square() - mean.square()).clamp(min=0).sqrt()
    absent = (shares == 0).unsqueeze(-1)
    least = table.masked_fill(absent, torch.inf).amin(1)
    most = table.masked_fill(absent, -torch.inf).amax(1)
    return torch.cat([shares, mean, spread, least, most], dim=-1)


def num_chemical() -> int:
    """How many of the inputs, the last ones, are those of `chemical_inputs`."""
    return MAX_ATOMIC_NUMBER + 4 * element_descriptors().shape[1]
