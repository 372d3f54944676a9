import pytest
import torch
from models import tiny_model

from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions, is_mixed
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import draw_conditions, parse_targets
from mattergen_lite.sampling.generator import open_generator
from mattergen_lite.sampling.guidance import AUXILIARY_INTERVAL, guided_calls, guided_calls_by_level
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.sampler import Samples, Target, sample, starting_points
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.tensors.geometry import wrap_difference


def options(**changes) -> SamplerOptions:
    return SamplerOptions(**{"steps": 5, "batch_size": 4} | changes)


def asked(model, conditions=(), guidance=(), **constraints) -> Target:
    return Target(
        properties=parse_targets(conditions, guidance, model.properties),
        constraints=parse_constraints(Request(**constraints)),
    )


def crystals_of(*arguments, **keywords) -> CrystalBatch:
    return sample(*arguments, **keywords).crystals


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
@pytest.mark.parametrize("space_group", ["any", "none", "cubic"])
def test_same_seed_same_crystals_whatever_the_batch(model, solver, space_group):
    """With few and with many orbits, atoms and images beside them."""

    def crystals(rows, size):
        chosen = options(solver=solver, batch_size=size, steps=4)
        target = asked(model, space_group=space_group)
        return crystals_of(model, rows, seed=1, options=chosen, target=target)

    everything = crystals(range(6), 6)
    assert everything.num_atoms.unique().numel() > 1
    assert_same_crystals(everything, crystals(range(6), 1), range(6), range(6))
    assert_same_crystals(everything, crystals([4], 3), [4], [0])


def test_other_seed_other_crystals(model):
    a, b = (
        crystals_of(
            model, range(4), seed=seed, options=options(), target=asked(model, num_atoms="5")
        )
        for seed in (1, 2)
    )
    assert (a.lattice - b.lattice).abs().min(-1).values.max() > 1e-3


def test_elements_and_sizes_are_exact(model):
    target = asked(model, elements="Li,P,S", num_atoms="3..7")
    crystals = crystals_of(model, range(16), seed=0, options=options(batch_size=8), target=target)
    found = set(crystals.atomic_numbers[crystals.mask].tolist())
    assert found <= {3, 15, 16}
    assert len(found) > 1
    assert crystals.num_atoms.min() >= 3
    assert crystals.num_atoms.max() <= 7


def test_crystals_are_well_formed_even_from_random_weights(model):
    crystals = crystals_of(model, range(10), seed=3, options=options(), target=Target())
    assert ((crystals.frac_coords >= 0) & (crystals.frac_coords < 1)).all()
    assert crystals.lattice.isfinite().all()
    assert (crystals.atomic_numbers[crystals.mask] >= 1).all()
    assert (crystals.atomic_numbers[~crystals.mask] == 0).all()


def test_guidance_zero_is_unconditional_and_one_is_not(model):
    conditions = ["band_gap=4.0", "space_group=225"]

    def lattices(*target):
        wanted = asked(model, *target, num_atoms="4")
        return crystals_of(model, range(3), seed=0, options=options(), target=wanted).lattice

    free = lattices()
    torch.testing.assert_close(lattices(conditions, ["0"]), free)
    conditioned = lattices(conditions)
    assert (conditioned - free).abs().max() > 1e-3
    assert (lattices(conditions, ["2"]) - conditioned).abs().max() > 1e-3
    assert (lattices(conditions, ["2", "band_gap=1"]) - conditioned).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        ([], [(3.0, ["band_gap", "space_group"]), (-2.0, None)]),
        (["1"], [(1.0, ["band_gap", "space_group"])]),
        (["0"], [(1.0, None)]),
        (["2"], [(2.0, ["band_gap", "space_group"]), (-1.0, None)]),
        (["0", "band_gap=1"], [(1.0, ["band_gap"])]),
        (["band_gap=2"], [(2.0, ["band_gap"]), (3.0, ["space_group"]), (-4.0, None)]),
        (["0.5", "band_gap=0.25"], [(0.25, ["band_gap"]), (0.5, ["space_group"]), (0.25, None)]),
        (["0.6", "band_gap=0.4"], [(0.4, ["band_gap"]), (0.6, ["space_group"])]),
    ],
)
def test_guidance_takes_as_few_network_calls_as_it_can(model, guidance, expected):
    targets = parse_targets(["band_gap=2", "space_group=225"], guidance, model.properties)
    conditions = draw_conditions(targets, sample_rngs(0, range(2)))
    calls = [
        (weight, None if part is None else sorted(part.values))
        for weight, part in guided_calls(targets, conditions)
    ]
    assert calls == expected


@pytest.mark.parametrize(
    ("conditions", "inside", "outside"),
    [
        ([], [3.0, -2.0], [1.0]),  # the auxiliary target is exaggerated where elements are decided
        (["band_gap=2"], [3.0, -2.0], [3.0, -2.0]),  # the target's call is made anyway
    ],
)
def test_a_wish_never_takes_a_call_of_its_own(model, conditions, inside, outside):
    properties = parse_targets(conditions, [], model.properties)
    auxiliary_targets = parse_targets(["space_group=225"], ["3"], model.properties)
    drawn = draw_conditions((*properties, *auxiliary_targets), sample_rngs(0, range(2)))
    calls = guided_calls_by_level(properties, auxiliary_targets, drawn)
    low, high = AUXILIARY_INTERVAL
    for sigma, expected in ((low, inside), (high, inside), (low / 2, outside), (2 * high, outside)):
        assert [weight for weight, _ in calls(sigma)] == expected


def test_every_sample_draws_its_own_target_whatever_the_batch(model):
    target = asked(model, ["band_gap=1..3", "space_group=225"], num_atoms="2..4")
    everything, one = (
        sample(model, rows, seed=0, options=options(batch_size=size), target=target)
        for rows, size in ((range(6), 6), ([4], 1))
    )
    gaps = [row["band_gap"] for row in everything.targets]
    assert len(set(gaps)) == 6
    assert all(1 <= gap <= 3 for gap in gaps)
    assert all(row["space_group"] == 225 for row in everything.targets)
    assert one.targets == [everything.targets[4]]
    assert_same_crystals(everything.crystals, one.crystals, [4], [0])


def test_samples_without_targets_have_none(model):
    samples = sample(model, range(2), seed=0, options=options(), target=Target())
    assert isinstance(samples, Samples)
    assert len(samples) == 2
    assert samples.targets == [{}, {}]


def test_less_noise_bends_geometry(model):
    def crystals(s_noise: float) -> CrystalBatch:
        changed = options(s_noise=s_noise)
        return crystals_of(model, range(3), seed=0, options=changed, target=Target())

    assert (crystals(0.5).lattice - crystals(1.0).lattice).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"s_noise is -1\.0: expected 0.0 or more"):
        crystals(-1.0)


def test_no_eta_means_no_noise_after_the_start(model):
    """With eta 0 the result must not depend on how much noise the generators still hold."""
    few, more = (
        crystals_of(
            model,
            [0],
            seed=0,
            options=options(steps=steps, eta=0.0),
            target=asked(model, num_atoms="2"),
        )
        for steps in (40, 80)
    )
    torch.testing.assert_close(few.lattice, more.lattice, rtol=0.1, atol=0.1)


def test_the_yield_of_templates_counts_with_and_without_a_target(model):
    def groups(bias, target):
        drawn = SamplerOptions(template_bias=bias)
        starts = starting_points(model, range(40), seed=0, target=target, options=drawn)
        return [partial_crystal.orbits.space_group for partial_crystal in starts.partial_crystals]

    for target in (Target(), asked(model, ["band_gap=2"])):
        assert groups(3.0, target) != groups(0.0, target)
    assert groups(0.0, asked(model, ["band_gap=2"])) != groups(0.0, Target())


def test_little_strength_stays_near_a_known_crystal(model):
    """Cell and places of the template's own crystal, which the start is but for some noise."""
    target = asked(model, num_atoms="4..8", space_group="62")
    bias = options().template_bias
    drawn = SamplerOptions(template_bias=bias)
    starts = starting_points(model, range(6), seed=0, target=target, options=drawn)
    partial_crystals = starts.partial_crystals
    known = OrbitCrystals.of(
        [partial_crystal.orbits for partial_crystal in partial_crystals]
    ).expand()

    def distance(strength: float) -> float:
        found = crystals_of(
            model,
            range(6),
            seed=0,
            options=options(strength=strength, steps=20, s_noise=0.0),
            target=target,
        )
        width = known.mask.shape[1]
        off = wrap_difference(found.frac_coords[:, :width] - known.frac_coords)[known.mask]
        return off.square().mean().sqrt().item()

    assert distance(0.05) < 0.02
    assert distance(1.0) > 0.1


def test_without_known_crystals_samples_start_from_all_noise(model):
    free = asked(model, space_group="none", num_atoms="4")
    whole = crystals_of(model, range(2), seed=0, options=options(strength=1.0), target=free)
    default = crystals_of(model, range(2), seed=0, options=options(), target=free)
    torch.testing.assert_close(default.frac_coords, whole.frac_coords)
    with pytest.raises(ValueError, match=r"strength 0\.5: .*no known crystal to start from"):
        crystals_of(model, range(2), seed=0, options=options(strength=0.5), target=free)


def test_precision_is_that_of_the_device_unless_it_is_asked_for():
    assert is_mixed("auto", on_gpu=True)
    assert not is_mixed("auto", on_gpu=False)
    assert not is_mixed("32-true", on_gpu=True)
    generators = {
        precision: open_generator(
            Request(checkpoint="tiny"), options(precision=precision), torch.device("cpu")
        )
        for precision in ("32-true", "bf16-mixed")
    }
    exact, rounded = (
        [record.structure for batch in one.records(range(4), 4, seed=0) for record in batch]
        for one in generators.values()
    )
    assert [len(one) for one in exact] == [len(one) for one in rounded]
    assert any((a.frac_coords != b.frac_coords).any() for a, b in zip(exact, rounded, strict=True))


def test_as_little_strength_as_there_can_be_is_one_step(model):
    target = asked(model, num_atoms="2")
    crystals = crystals_of(model, [0], seed=0, options=options(strength=1e-6), target=target)
    assert torch.isfinite(crystals.frac_coords).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1}, "steps is 1"),
        ({"eta": -1.0}, "eta is -1"),
        ({"batch_size": 0}, "is 0"),
        ({"strength": 0.0}, "strength is 0.0: expected 1e-06 or more"),
        ({"strength": 1.5}, "strength is 1.5"),
    ],
)
def test_bad_options_name_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_no_samples_is_an_error(model):
    with pytest.raises(ValueError, match="0 samples"):
        sample(model, [], seed=0, options=options(), target=Target())
