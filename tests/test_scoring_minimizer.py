"""The quasi-Newton method on energies whose minimum is known."""

import numpy as np
import pytest

from mattergen_lite.scoring.energy import minimizer
from mattergen_lite.scoring.energy.minimizer import MAX_MATRIX, MAX_STEP, QuasiNewton


@pytest.fixture(params=[MAX_MATRIX, 0], autouse=True)
def largest_matrix(request, monkeypatch):
    """Everything holds for small and for large cells, whose Hessian is kept in another form."""
    monkeypatch.setattr(minimizer, "MAX_MATRIX", request.param)


def descend(energy, gradient, position, num_steps):
    """Positions and energies met."""
    minimizer, met = QuasiNewton(), []
    for _ in range(num_steps):
        met.append((position, energy(position)))
        position = minimizer.step(position, energy(position), -gradient(position))
    return met


def bowl(stiffness):
    """A quadratic energy with its minimum at zero, and its gradient."""
    return (
        lambda x: float((stiffness * x**2).sum()) / 2,
        lambda x: stiffness * x,
    )


def test_bowls_of_any_stiffness_are_descended_to_the_bottom():
    stiffness = np.geomspace(1, 60, 12).reshape(4, 3)  # eV/Å², soft cells to short bonds
    start = np.random.default_rng(0).normal(scale=0.2, size=(4, 3))
    met = descend(*bowl(stiffness), start, 30)
    assert met[-1][1] < 1e-6
    np.testing.assert_allclose(met[-1][0], 0, atol=1e-3)


def test_no_row_moves_further_than_allowed():
    met = descend(*bowl(np.full((5, 3), 0.5)), np.full((5, 3), 2.0), 10)
    steps = np.diff([position for position, _ in met], axis=0)
    assert np.linalg.norm(steps, axis=-1).max() <= MAX_STEP + 1e-12


def test_a_step_that_raises_the_energy_is_taken_back_and_made_shorter():
    energy, gradient = bowl(np.full((1, 3), 500.0))  # far stiffer than is supposed at first
    met = descend(energy, gradient, np.array([[0.05, 0.0, 0.0]]), 20)
    assert met[1][1] > met[0][1]
    assert np.linalg.norm(met[2][0] - met[0][0]) < np.linalg.norm(met[1][0] - met[0][0])
    assert met[-1][1] < 1e-6


def test_a_saddle_point_is_left_downhill():
    def energy(x):
        return float((x[0, 0] ** 2 - 1) ** 2 + x[0, 1] ** 2 + x[0, 2] ** 2)

    def gradient(x):
        return np.array([[4 * x[0, 0] * (x[0, 0] ** 2 - 1), 2 * x[0, 1], 2 * x[0, 2]]])

    met = descend(energy, gradient, np.array([[0.05, 0.3, 0.0]]), 60)
    np.testing.assert_allclose(met[-1][0], [[1, 0, 0]], atol=1e-2)


def test_forces_that_belong_to_no_energy_are_refused():
    rising = iter(range(20))
    with pytest.raises(ValueError, match="the energy rises along the forces"):
        descend(lambda _: float(next(rising)), lambda _: np.ones((1, 3)), np.zeros((1, 3)), 9)


def test_both_forms_of_the_hessian_lead_the_same_way(monkeypatch):
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    matrix = (turn * np.geomspace(0.2, 80, 30)) @ turn.T

    def energy(x):
        return float(x.ravel() @ matrix @ x.ravel() / 2 + (x**4).sum())

    def gradient(x):
        return (matrix @ x.ravel()).reshape(x.shape) + 4 * x**3

    start = rng.normal(scale=0.2, size=(10, 3))
    paths = []
    for largest in (MAX_MATRIX, 0):
        monkeypatch.setattr(minimizer, "MAX_MATRIX", largest)
        paths.append([position for position, _ in descend(energy, gradient, start, 25)])
    np.testing.assert_allclose(*paths, atol=1e-7)
