from itertools import islice

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher

from mattergen_lite.config import DataConfig
from mattergen_lite.data.canonical import row_structure, write_crystal_table
from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.dataset import OrbitDataset, shipped_orbits
from mattergen_lite.data.subgroup_augmentation import view_columns
from mattergen_lite.data.table import read_crystal_table, select_rows
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.properties import Property
from mattergen_lite.symmetry.columns import ORBIT_TYPES
from mattergen_lite.training.datamodule import BatchOrder, CrystalDataModule, with_view_columns


@pytest.fixture(scope="module")
def table():
    return read_crystal_table("embedded")


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


@pytest.fixture(scope="module")
def orbits(table):
    return OrbitDataset.from_table(table.slice(0, 500))


def test_cells_of_up_to_52_atoms_are_embedded(table):
    assert len(table) > 100_000
    size = table["num_atoms"].to_numpy()
    assert size.max() == 52
    assert (size > 20).sum() > 23_000
    large = table.filter(pc.greater(table["num_atoms"], 20))
    assert pc.mean(pc.is_valid(large["e_above_hull"]).cast("float")).as_py() == 1.0
    assert set(large["split"].to_pylist()).isdisjoint({"test"})


def test_templates_leave_out_the_test_split(table):
    near = shipped_orbits("embedded", max_orbits=20, max_atoms=52, max_e_above_hull=0.1)
    limits = DataConfig(max_e_above_hull=0.1)
    expected = select_rows(table, ["train", "val", "extra"], limits)
    assert len(near) == len(expected)
    assert len(near) < len(select_rows(table, ["train", "val", "extra"], DataConfig()))
    assert near.num_orbits.max() <= 20


def test_batches_hold_the_rows_of_the_table(table, dataset):
    rows = [7, 3, 120]
    crystals = dataset.crystals(torch.tensor(rows))
    for i, row in enumerate(table.slice(0, 500).take(rows).to_pylist()):
        n = row["num_atoms"]
        assert crystals.atomic_numbers[i, :n].tolist() == row["atomic_numbers"]
        assert crystals.atomic_numbers[i, n:].sum() == 0
        np.testing.assert_allclose(crystals.frac_coords[i, :n].flatten(), row["frac_coords"])
        np.testing.assert_allclose(crystals.lattice[i].flatten(), row["lattice"])


def test_orbits_are_the_crystals_of_the_table(table, orbits):
    """The same atoms in another cell, by pymatgen's own matcher, symmetrised within 0.1 Å."""
    rows = list(range(0, 500, 25))
    batch = orbits.crystals(torch.tensor(rows))
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    for found, row in zip(
        to_structures(batch.expand()), table.slice(0, 500).take(rows).to_pylist(), strict=True
    ):
        assert matcher.fit(found, row_structure(row))
    few, many = orbits.crystals(torch.tensor([3])), orbits.crystals(torch.tensor([3]), (20, 52))
    assert many.templates.mask.shape[1] == 20
    assert many.templates.atom_mask.shape[1] == 52
    count = int(few.templates.num_atoms)
    wide = many.expand()
    assert torch.equal(wide.atomic_numbers[:, :count], few.expand().atomic_numbers)
    assert torch.equal(wide.frac_coords[:, :count], few.expand().frac_coords)


@pytest.mark.parametrize("kind", [CrystalDataset, OrbitDataset])
def test_computed_columns_match_pymatgen(table, kind):
    rows = torch.arange(0, 500, 50)
    packed = kind.from_table(table.slice(0, 500))
    crystals = packed.crystals(rows)
    structures = to_structures(crystals.expand() if kind is OrbitDataset else crystals)
    for row, structure in zip(rows, structures, strict=True):
        assert packed.columns["density"][row].item() == pytest.approx(structure.density, rel=1e-3)
        per_atom = structure.volume / len(structure)
        assert packed.columns["volume_per_atom"][row].item() == pytest.approx(per_atom, rel=1e-4)


def test_missing_values_are_absent_conditions(orbits):
    properties = (
        Property(name="bulk_modulus"),
        Property(name="chemical_system", kind="elements"),
    )
    conditions = orbits.batch(torch.arange(200), properties).conditions
    missing = orbits.columns["bulk_modulus"][:200].isnan()
    assert 0 < missing.sum() < 200
    assert torch.equal(conditions.present["bulk_modulus"], ~missing)
    assert conditions.values["bulk_modulus"].isfinite().all()
    crystals = orbits.crystals(torch.arange(200))
    for i in (0, 50, 199):
        present = set(crystals.atomic_numbers[i].tolist()) - {0}
        assert set(conditions.values["chemical_system"][i].nonzero().flatten().tolist()) == present


@pytest.fixture(scope="module")
def views(table):
    return view_columns(table.slice(0, 60), share=1.0, max_orbits=12, seed=0)


def test_views_are_the_same_crystals_with_less_symmetry(table, orbits, views):
    assert len(views) > 30
    again = view_columns(table.slice(0, 60), share=1.0, max_orbits=12, seed=0)
    assert again.equals(views)
    reduced = OrbitDataset.from_table(with_view_columns(table.slice(0, 60), views))
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    rows = views["row"].to_numpy()
    structures = to_structures(reduced.crystals(torch.arange(len(views))).expand())
    originals = to_structures(orbits.crystals(torch.tensor(rows)).expand())
    for found, original in zip(structures, originals, strict=True):
        assert matcher.fit(found, original)
    assert reduced.num_orbits.max() <= 12
    assert (reduced.num_orbits >= orbits.num_orbits[rows.copy()]).all()
    assert (reduced.space_group == 1).float().mean() > 0.3
    assert (reduced.space_group > 1).any()
    for name in ("band_gap", "bulk_modulus"):
        torch.testing.assert_close(
            reduced.columns[name], orbits.columns[name][rows.copy()], equal_nan=True
        )


def test_views_are_shown_every_other_time(tmp_path, table, views):
    config = DataConfig(path=str(tmp_path / "table.parquet"), batch_size=4, pool_batches=5)
    small = table.slice(0, 60)
    split = small.column_names.index("split")
    small = small.set_column(split, "split", [["train"] * 50 + ["val"] * 10])
    write_crystal_table(small, config.path)
    inside = views.filter(pc.less(views["row"], 50))
    data = CrystalDataModule(config, (), 0, inside)
    assert len(data.train) == 50 + len(inside)
    assert set(inside.column_names) == {"row", *ORBIT_TYPES}
    order = BatchOrder(
        data.train.sort_key(),
        4,
        5,
        0,
        num_crystals=data.num_train,
        views=data.views,
    )
    shown = np.concatenate(list(islice(order.batches(), 500)))[: 50 * 40].reshape(40, 50)
    crystal = {view: row for row, view in data.views.items()}
    for start in range(0, 40, 2):  # of 100 rows, the first epoch and the second
        rows = [crystal.get(row, row) for row in shown[start : start + 2].ravel().tolist()]
        assert sorted(rows) == sorted([*range(50)] * 2)
    seen = np.bincount(shown.ravel(), minlength=len(data.train))
    with_view = np.array(list(data.views))
    assert seen[with_view].mean() == pytest.approx(20, abs=2)
    assert seen[list(data.views.values())].mean() == pytest.approx(20, abs=2)


def test_every_row_once_an_epoch_in_batches_of_similar_size():
    num_atoms = torch.randint(1, 21, (1000,), generator=torch.Generator().manual_seed(0))

    def fill(batches):
        return np.mean([num_atoms[b].float().mean() / num_atoms[b].max() for b in batches])

    order = BatchOrder(num_atoms.numpy(), batch_size=10, pool_batches=20, seed=0)
    unsorted = BatchOrder(num_atoms.numpy(), batch_size=10, pool_batches=1, seed=0)
    batches = list(islice(order.batches(), 100))
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert fill(islice(unsorted.batches(), 100)) < 0.6
    assert fill(batches) > 0.9
    means = [num_atoms[b].float().mean().item() for b in batches[:10]]
    assert means != sorted(means)


def test_order_can_be_entered_anywhere():
    num_atoms = torch.randint(1, 21, (137,), generator=torch.Generator().manual_seed(0))
    order = BatchOrder(num_atoms.numpy(), batch_size=8, pool_batches=5, seed=3)
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
        read_crystal_table(path)
