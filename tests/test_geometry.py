import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mattergen_lite.tensors import geometry

floats = st.floats(-1e6, 1e6, width=32)


settings.register_profile("tests", deadline=None, max_examples=50)
settings.load_profile("tests")


@given(arrays("float32", 8, elements=floats))
def test_wrap_stays_in_the_unit_interval(values):
    wrapped = geometry.wrap(torch.from_numpy(values.copy()))
    assert ((wrapped >= 0) & (wrapped < 1)).all()


def test_wrap_of_tiny_negatives_is_not_one():
    assert geometry.wrap(torch.tensor([-1e-9])).item() == 0.0


@given(arrays("float32", 8, elements=floats))
def test_wrapped_difference_is_the_short_way(values):
    short = geometry.wrap_difference(torch.from_numpy(values.copy()))
    assert (short.abs() <= 0.5).all()


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3, 1.0, 2.0])
def test_wrapped_normal_displacement_is_sigma_squared_times_the_score(sigma):
    displacement = torch.linspace(-0.5, 0.5, 41, dtype=torch.float64, requires_grad=True)
    images = displacement.unsqueeze(-1) + torch.arange(-30, 31)
    log_density = torch.logsumexp(-0.5 * (images / sigma) ** 2, dim=-1)
    # The displacement is mean - x, so the derivative with respect to x changes sign.
    (slope,) = torch.autograd.grad(log_density.sum(), displacement)
    found = geometry.wrapped_normal_displacement(
        displacement.detach(), torch.tensor(sigma, dtype=torch.float64).expand(41)
    )
    torch.testing.assert_close(found, -(sigma**2) * slope, atol=1e-6, rtol=1e-4)


def test_wrapped_normal_scale_saturates_at_the_uniform_spread():
    sigma = torch.tensor([1e-3, 1e3])
    found = geometry.wrapped_normal_scale(sigma)
    torch.testing.assert_close(found, torch.tensor([1e-3, 1 / math.sqrt(12)]), rtol=1e-4, atol=0)
