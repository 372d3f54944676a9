import pytest
import torch
from models import tiny_model

from mattergen_lite.elements import element_mask
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.properties import parse_conditions
from mattergen_lite.sampling import (
    SamplerOptions,
    Target,
    draw_num_atoms,
    parse_range,
    restrict_histogram,
    sample,
    sample_rngs,
)


def options(**changes) -> SamplerOptions:
    return SamplerOptions(**{"steps": 8, "batch_size": 4} | changes)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def assert_same_crystals(a, b, rows_a, rows_b):
    for i, j in zip(rows_a, rows_b, strict=True):
        n = int(a.num_atoms[i])
        assert int(b.num_atoms[j]) == n
        assert torch.equal(a.atomic_numbers[i, :n], b.atomic_numbers[j, :n])
        drift = wrap_difference(a.frac_coords[i, :n] - b.frac_coords[j, :n])
        assert drift.abs().max() < 2e-3
        torch.testing.assert_close(a.lattice[i], b.lattice[j], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("solver", ["multistep", "heun"])
def test_same_seed_same_crystals_whatever_the_batch(model, solver):
    everything = sample(
        model, range(6), seed=1, options=options(solver=solver, batch_size=6), target=Target()
    )
    in_pieces = sample(
        model, range(6), seed=1, options=options(solver=solver, batch_size=1), target=Target()
    )
    one = sample(model, [4], seed=1, options=options(solver=solver), target=Target())
    assert_same_crystals(everything, in_pieces, range(6), range(6))
    assert_same_crystals(everything, one, [4], [0])


def test_other_seed_other_crystals(model):
    a, b = (
        sample(model, range(4), seed=seed, options=options(), target=Target(num_atoms=(5, 5)))
        for seed in (1, 2)
    )
    assert (a.lattice - b.lattice).abs().min(-1).values.max() > 1e-3


def test_elements_and_sizes_are_exact(model):
    target = Target(allowed=element_mask(["Li", "P", "S"]), num_atoms=(3, 7))
    crystals = sample(model, range(30), seed=0, options=options(batch_size=8), target=target)
    found = set(crystals.atomic_numbers[crystals.mask].tolist())
    assert found <= {3, 15, 16}
    assert len(found) > 1
    assert crystals.num_atoms.min() >= 3
    assert crystals.num_atoms.max() <= 7


def test_crystals_are_well_formed_even_from_random_weights(model):
    crystals = sample(model, range(10), seed=3, options=options(), target=Target())
    assert ((crystals.frac_coords >= 0) & (crystals.frac_coords < 1)).all()
    assert crystals.lattice.isfinite().all()
    assert (crystals.atomic_numbers[crystals.mask] >= 1).all()
    assert (crystals.atomic_numbers[~crystals.mask] == 0).all()


def test_guidance_zero_is_unconditional_and_one_is_not(model):
    conditions = parse_conditions(["band_gap=4.0", "space_group=225"], model.properties)

    def lattices(**target):
        return sample(
            model, range(3), seed=0, options=options(), target=Target(num_atoms=(4, 4), **target)
        ).lattice

    free = lattices()
    torch.testing.assert_close(lattices(conditions=conditions, guidance=0.0), free)
    conditioned = lattices(conditions=conditions)
    assert (conditioned - free).abs().max() > 1e-3
    assert (lattices(conditions=conditions, guidance=2.0) - conditioned).abs().max() > 1e-3


def test_no_churn_means_no_noise_after_the_start(model):
    """Without churn the result must not depend on how much noise the generators still hold."""
    few = sample(
        model, [0], seed=0, options=options(steps=200, churn=0.0), target=Target(num_atoms=(2, 2))
    )
    more = sample(
        model, [0], seed=0, options=options(steps=400, churn=0.0), target=Target(num_atoms=(2, 2))
    )
    torch.testing.assert_close(few.lattice, more.lattice, rtol=0.05, atol=0.05)


def test_atom_counts_follow_the_histogram():
    drawn = draw_num_atoms([0, 3, 1], sample_rngs(0, range(2000)))
    assert drawn.min() == 2
    assert (drawn == 2).float().mean() == pytest.approx(0.75, abs=0.03)


def test_ranges():
    assert parse_range("8") == (8, 8)
    assert parse_range("4..12") == (4, 12)
    assert restrict_histogram([5, 0, 2], (2, 3)) == [0, 0, 2]
    assert restrict_histogram([5, 0, 0], (2, 3)) == [0, 1, 1]
    with pytest.raises(ValueError, match=r"this model makes 1\.\.3"):
        restrict_histogram([1, 1, 1], (2, 4))
    with pytest.raises(ValueError, match="'4-12' is no whole number"):
        parse_range("4-12")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 1}, "steps is 1"), ({"churn": -1.0}, "churn is -1"), ({"batch_size": 0}, "is 0")],
)
def test_bad_options_name_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_no_samples_is_an_error(model):
    with pytest.raises(ValueError, match="0 samples"):
        sample(model, [], seed=0, options=options(), target=Target())
