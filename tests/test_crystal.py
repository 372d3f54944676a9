import torch

from mattergen_lite.tensors.crystal import CrystalBatch, concatenate


def batch_of(sizes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return CrystalBatch.from_crystals(
        [torch.randint(1, 101, (n,), generator=rng) for n in sizes],
        [torch.rand(n, 3, generator=rng) for n in sizes],
        torch.eye(3) * 5 + torch.rand(len(sizes), 3, 3, generator=rng),
    )


def test_padding_round_trip():
    batch = batch_of([3, 1, 5])
    assert batch.num_atoms.tolist() == [3, 1, 5]
    assert batch.mask.shape == (3, 5)
    assert (batch.atomic_numbers[~batch.mask] == 0).all()
    assert (batch.frac_coords[~batch.mask] == 0).all()


def test_concatenation_pads_to_the_widest():
    narrow, wide = batch_of([2, 1]), batch_of([4], seed=1)
    joined = concatenate([narrow, wide])
    assert joined.num_atoms.tolist() == [2, 1, 4]
    assert torch.equal(joined[2:].frac_coords, wide.frac_coords)
    assert torch.equal(joined.atomic_numbers[:2, :2], narrow.atomic_numbers)
