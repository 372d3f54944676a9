from itertools import islice

import numpy as np
import pytest
import torch

from mattergen_lite.config import DataConfig
from mattergen_lite.data import BatchOrder, CrystalDataset, read_table, select_rows
from mattergen_lite.properties import Property


@pytest.fixture(scope="module")
def table():
    return read_table("embedded")


@pytest.fixture(scope="module")
def dataset(table):
    return CrystalDataset.from_table(table.slice(0, 500))


def test_embedded_splits_are_disjoint_and_of_the_published_size(table):
    splits = {
        split: set(select_rows(table, [split], DataConfig())["material_id"].to_pylist())
        for split in ("train", "val", "test")
    }
    assert {name: len(ids) for name, ids in splits.items()} == pytest.approx(
        {"train": 26_024, "val": 7_344, "test": 7_342}, rel=0.01
    )
    assert not splits["train"] & (splits["val"] | splits["test"])


def test_batches_hold_the_rows_of_the_table(table, dataset):
    rows = [7, 3, 120]
    crystals = dataset.crystals(torch.tensor(rows))
    for i, row in enumerate(table.slice(0, 500).take(rows).to_pylist()):
        n = row["num_atoms"]
        assert crystals.atomic_numbers[i, :n].tolist() == row["atomic_numbers"]
        assert crystals.atomic_numbers[i, n:].sum() == 0
        np.testing.assert_allclose(crystals.frac_coords[i, :n].flatten(), row["frac_coords"])
        np.testing.assert_allclose(crystals.lattice[i].flatten(), row["lattice"])


def test_computed_columns_match_pymatgen(table, dataset):
    from mattergen_lite.io import to_structures

    rows = torch.arange(0, 500, 50)
    structures = to_structures(dataset.crystals(rows))
    for row, structure in zip(rows, structures, strict=True):
        assert dataset.columns["density"][row].item() == pytest.approx(structure.density, rel=1e-3)
        per_atom = structure.volume / len(structure)
        assert dataset.columns["volume_per_atom"][row].item() == pytest.approx(per_atom, rel=1e-4)


def test_missing_values_are_absent_conditions(dataset):
    properties = (
        Property(name="bulk_modulus"),
        Property(name="chemical_system", kind="elements"),
    )
    conditions = dataset.batch(torch.arange(200), properties).conditions
    missing = dataset.columns["bulk_modulus"][:200].isnan()
    assert 0 < missing.sum() < 200
    assert torch.equal(conditions.present["bulk_modulus"], ~missing)
    assert conditions.values["bulk_modulus"].isfinite().all()
    crystals = dataset.crystals(torch.arange(200))
    for i in (0, 50, 199):
        present = set(crystals.atomic_numbers[i].tolist()) - {0}
        assert set(conditions.values["chemical_system"][i].nonzero().flatten().tolist()) == present


def test_every_row_once_an_epoch_in_batches_of_similar_size():
    num_atoms = torch.randint(1, 21, (1000,), generator=torch.Generator().manual_seed(0))

    def fill(batches):
        return np.mean([num_atoms[b].float().mean() / num_atoms[b].max() for b in batches])

    order = BatchOrder(num_atoms, batch_size=10, pool_batches=20, seed=0)
    unsorted = BatchOrder(num_atoms, batch_size=10, pool_batches=1, seed=0)
    batches = list(islice(order.batches(), 100))
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert fill(islice(unsorted.batches(), 100)) < 0.6
    assert fill(batches) > 0.9
    means = [num_atoms[b].float().mean().item() for b in batches[:10]]
    assert means != sorted(means)


def test_order_can_be_entered_anywhere():
    num_atoms = torch.randint(1, 21, (137,), generator=torch.Generator().manual_seed(0))
    order = BatchOrder(num_atoms, batch_size=8, pool_batches=5, seed=3)
    whole = list(islice(order.batches(), 60))
    for start in (1, 5, 17, 43):
        rest = list(islice(order.batches(start), 60 - start))
        assert all(np.array_equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_selection_that_leaves_nothing_is_an_error(table):
    with pytest.raises(ValueError, match="no crystals in splits nowhere"):
        select_rows(table, ["nowhere"], DataConfig())


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_unreadable_tables_are_named(tmp_path, content):
    path = tmp_path / "table.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read crystal table .*table.parquet"):
        read_table(path)
