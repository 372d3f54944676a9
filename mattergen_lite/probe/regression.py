"""Ridge regression with honest errors: every prediction that counts is of a group left out.

Hoerl and Kennard (1970), Technometrics 12, 55. Groups keep what belongs together (noise draws of
one crystal, crystals of one formula) on one side of every split.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mattergen_lite.tensors.shapes import Bool, Float, Int

FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # relative to features of variance 1


def ridge(
    features: Float[Tensor, "M D"], values: Float[Tensor, "M"], penalty: float
) -> tuple[Float[Tensor, "D"], Float[Tensor, ""]]:
    """Weight and bias of the regression that shrinks standardised features by `penalty`."""
    weight, bias = _paths(features, values, (penalty,))
    return weight[0].float(), bias[0].float()


def best_penalty(
    features: Float[Tensor, "M D"], values: Float[Tensor, "M"], groups: Int[Tensor, "M"]
) -> float:
    """The penalty with the smallest squared error on groups left out."""
    errors = torch.zeros(len(PENALTIES), dtype=torch.float64)
    for held in folds(groups):
        weight, bias = _paths(features[~held], values[~held], PENALTIES)
        predicted = features[held].double() @ weight.T + bias
        errors += (predicted - values[held].unsqueeze(-1)).square().sum(0)
    return PENALTIES[int(errors.argmin())]


def held_out_predictions(
    features: Float[Tensor, "M D"], values: Float[Tensor, "M"], groups: Int[Tensor, "M"]
) -> Float[Tensor, "M"]:
    """Predictions for each fold by a regression that never saw it, not even for its penalty."""
    predicted = torch.empty_like(values)
    for held in folds(groups):
        seen = features[~held], values[~held]
        weight, bias = ridge(*seen, best_penalty(*seen, groups[~held]))
        predicted[held] = features[held] @ weight + bias
    return predicted


@dataclass(frozen=True, kw_only=True)
class Leverage:
    """Variance of a ridge regression's prediction over that of its noise, of any features.

    It is small where crystals were labelled and grows with the square of the distance from them.
    """

    mean: Float[Tensor, "D"]
    spread: Float[Tensor, "D"]
    matrix: Float[Tensor, "D D"]  # inverse of the penalised covariance over the number of crystals

    @classmethod
    def of(cls, features: Float[Tensor, "M D"], penalty: float, num_crystals: int) -> "Leverage":
        """The leverage of the regression that is fitted to these features.

        Args:
            features: Rows; draws of noise of one crystal count as one.
            penalty: That of the regression.
            num_crystals: Number of crystals among the rows.
        """
        standard, mean, spread = _standardised(features.double())
        covariance = standard.T @ standard / len(standard)
        penalised = covariance + penalty * torch.eye(len(mean), dtype=torch.float64)
        matrix = torch.linalg.inv(penalised) / num_crystals
        return cls(mean=mean.float(), spread=spread.float(), matrix=matrix.float())

    def __call__(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Leverage of each row."""
        standard = (features - self.mean) / self.spread
        return ((standard @ self.matrix) * standard).sum(-1).clamp(min=0)


def held_out_leverage(
    features: Float[Tensor, "M D"], groups: Int[Tensor, "M"], penalty: float, num_draws: int
) -> float:
    """Mean leverage of each fold under the regression that never saw it."""
    parts = []
    for held in folds(groups):
        seen = features[~held]
        parts.append(Leverage.of(seen, penalty, len(seen) // num_draws)(features[held]))
    return torch.cat(parts).mean().item()


def folds(groups: Int[Tensor, "M"]) -> list[Bool[Tensor, "M"]]:
    """Masks of the rows that each fold leaves out; a group lies in one fold."""
    _, number = groups.unique(return_inverse=True)
    count = int(number.max()) + 1
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return [shuffled[number] % FOLDS == fold for fold in range(min(FOLDS, count))]


def _paths(
    features: Float[Tensor, "M D"], values: Float[Tensor, "M"], penalties: tuple[float, ...]
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "P"]]:
    """Weights and biases for several penalties from one eigendecomposition, in double precision."""
    x, y = features.double(), values.double()
    standard, mean, spread = _standardised(x)
    eigenvalues, vectors = torch.linalg.eigh(standard.T @ standard / len(x))
    projected = vectors.T @ (standard.T @ (y - y.mean()) / len(x))
    shrunk = projected / (eigenvalues + x.new_tensor(penalties).unsqueeze(-1))
    weight = shrunk @ vectors.T / spread
    return weight, y.mean() - weight @ mean


def _standardised(
    features: Float[Tensor, "M D"],
) -> tuple[Float[Tensor, "M D"], Float[Tensor, "D"], Float[Tensor, "D"]]:
    """Features of mean 0 and spread 1, and what their mean and spread were."""
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    return (features - mean) / spread, mean, spread
