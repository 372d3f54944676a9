"""Coverage against naive loops, fingerprints of known crystals, and the table in the package."""

import math
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile, triclinic
from matminer.featurizers.composition import ElementProperty
from matminer.featurizers.site import CrystalNNFingerprint
from pydantic import TypeAdapter
from pymatgen.core import Composition, Structure
from sklearn.preprocessing import StandardScaler

from mattergen_lite.benchmarking.protocols import COV_RECALL
from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.metrics import coverage as module
from mattergen_lite.scoring.metrics.coverage import (
    FINGERPRINT,
    Fingerprint,
    KnownFingerprints,
    Scaler,
    composition_fingerprint,
    coverage,
    fingerprint,
    known_fingerprints,
    structure_fingerprint,
)

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from build_coverage_reference import fit_scaler, save

SITES = CrystalNNFingerprint.from_preset("ops").feature_labels()
STATISTICS = ElementProperty.from_preset("magpie").feature_labels()


def by_loops(samples, known, structure_cutoff, composition_cutoff):
    """COV-R and COV-P one pair after the other, compositions as they are."""

    def near(one, others):
        structure = min(math.dist(one.structure, other.structure) for other in others)
        composition = min(math.dist(one.composition, other.composition) for other in others)
        return structure <= structure_cutoff and composition <= composition_cutoff

    there = [one for one in samples if one is not None]
    recall = sum(near(one, there) for one in known) / len(known)
    return recall, sum(near(one, known) for one in there) / len(samples)


def points(count, seed):
    rng = np.random.default_rng(seed)
    return [
        Fingerprint(structure=one.tolist(), composition=other.tolist())
        for one, other in zip(rng.random((count, 61)), rng.random((count, 132)), strict=True)
    ]


def known_points(found):
    scaler = Scaler(mean=np.zeros(132), std=np.ones(132))
    return KnownFingerprints.of([str(n) for n in range(len(found))], found, scaler)


@pytest.mark.parametrize("cutoffs", [(2.7, 4.3), (2.8, 4.2), (2.6, 4.5), (0.1, 9.0), (9.0, 0.1)])
def test_coverage_is_that_of_naive_loops(cutoffs, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    samples, known = [*points(13, 0), None, None], points(9, 1)
    found = coverage(
        samples, known_points(known), structure_cutoff=cutoffs[0], composition_cutoff=cutoffs[1]
    )
    assert (found.recall, found.precision) == pytest.approx(by_loops(samples, known, *cutoffs))


def test_the_closest_structure_and_composition_may_be_of_different_crystals():
    """As in CDVAE: neither known crystal is like the sample in both, and yet it is covered."""
    known = [
        Fingerprint(structure=[x] + [0.0] * 60, composition=[y] + [0.0] * 131)
        for x, y in ((0.0, 50.0), (5.0, 0.0))
    ]
    sample = Fingerprint(structure=[0.3] + [0.0] * 60, composition=[9.0] + [0.0] * 131)
    found = coverage([sample, None], known_points(known))
    assert (found.recall, found.precision) == (0.0, 0.5)


def test_nothing_covers_nothing():
    known = known_points(points(3, 0))
    found = coverage([None, None], known)
    assert (found.recall, found.precision) == (0.0, 0.0)
    with pytest.raises(ValueError, match="0 samples against 3 known crystals"):
        coverage([], known)


def test_statistics_are_scaled_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (40, 132))
    values[rng.random(values.shape) < 0.1] = np.nan
    oracle = StandardScaler().fit(values)
    assert fit_scaler(values).scaled(values) == pytest.approx(
        np.nan_to_num(oracle.transform(values), nan=0.0)
    )


def test_rock_salt_is_octahedral_and_its_statistics_are_those_of_its_elements():
    found = fingerprint(nacl())
    sites = dict(zip(SITES, found.structure, strict=True))
    assert sites["wt CN_6"] == pytest.approx(1, abs=0.02)
    assert sites["octahedral CN_6"] == pytest.approx(1, abs=0.02)
    assert sites["wt CN_4"] == pytest.approx(0, abs=0.02)
    statistics = dict(zip(STATISTICS, found.composition, strict=True))
    assert statistics["MagpieData mean Number"] == 14
    assert statistics["MagpieData range Number"] == 6
    assert statistics["MagpieData mean Electronegativity"] == pytest.approx((0.93 + 3.16) / 2)


@pytest.mark.parametrize("make", [nacl_primitive, rutile, perovskite, triclinic])
def test_fingerprints_are_of_the_crystal_not_of_its_cell(make):
    one, shifted, larger = make(), make(), make() * (2, 1, 1)
    shifted.translate_sites(range(len(shifted)), [0.21, 0.37, 0.05])
    expected = fingerprint(one)
    for other in map(fingerprint, (shifted, larger)):
        assert math.dist(other.structure, expected.structure) < 0.02
        assert other.composition == pytest.approx(expected.composition, nan_ok=True)


@pytest.mark.parametrize("make", [rutile, quartz])
def test_one_site_of_an_orbit_stands_for_all(make):
    sites = CrystalNNFingerprint.from_preset("ops")
    crystal = make()
    every = [sites.featurize(crystal, index) for index in range(len(crystal))]
    assert math.dist(structure_fingerprint(crystal), np.mean(every, axis=0)) < 1e-3


def test_a_crystal_without_a_fingerprint_costs_only_itself(tmp_path):
    mixed = Structure(np.eye(3) * 4, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with Pool(0) as pool:
        result_cache = ResultCache(pool, tmp_path / "fingerprints.jsonl")
        first = result_cache.ask(FINGERPRINT, [nacl(), mixed])
        again = result_cache.ask(FINGERPRINT, [nacl()])
    assert isinstance(first[1], Failure)
    assert again[0].structure == first[0].structure == fingerprint(nacl()).structure


def test_what_is_not_known_of_an_element_survives_the_journal():
    answers = TypeAdapter(Fingerprint)
    one = Fingerprint(structure=[0.5], composition=[math.nan, 1.0])
    again = answers.validate_python(answers.dump_python(one, mode="json"))
    assert math.isnan(again.composition[0])


@pytest.fixture(scope="module")
def test_rows():
    columns = ["split", "material_id", "num_atoms", "lattice", "atomic_numbers", "frac_coords"]
    table = read_crystal_table(EMBEDDED, columns)
    return table.filter(pc.equal(table["split"].cast("string"), "test"))


def test_the_package_has_fingerprints_of_the_test_split(test_rows):
    known = known_fingerprints()
    assert len(set(known.material_ids)) == len(known.material_ids)
    assert set(known.material_ids) <= set(test_rows["material_id"].to_pylist())
    assert f"the {len(known.material_ids):,} crystals" in COV_RECALL.how
    where = {name: number for number, name in enumerate(known.material_ids)}
    small = [row for row in test_rows.to_pylist() if row["num_atoms"] <= 3][::100]
    assert len(small) > 2
    for row in small:
        found, place = fingerprint(row_structure(row)), where[row["material_id"]]
        assert math.dist(found.structure, known.structures[place]) < 0.01
        composition = known.scaler.scaled(np.array([found.composition]))[0]
        assert math.dist(composition, known.compositions[place]) < 0.1


def test_the_known_crystals_cover_themselves(tmp_path):
    known = known_fingerprints()
    raw = known.compositions * known.scaler.std + known.scaler.mean
    same = [
        Fingerprint(structure=one.tolist(), composition=other.tolist())
        for one, other in zip(known.structures, raw, strict=True)
    ]
    found = coverage(same[:1500], known, structure_cutoff=1e-6, composition_cutoff=1e-6)
    assert found.precision == 1
    assert 1500 / len(same) <= found.recall < 0.5
    found = coverage(same, known, structure_cutoff=1e-6, composition_cutoff=1e-6)
    assert (found.recall, found.precision) == (1, 1)
    save(known, tmp_path / "again.npz")
    again = KnownFingerprints.load(tmp_path / "again.npz")
    assert again.material_ids == known.material_ids
    assert np.array_equal(again.structures, known.structures)
    assert np.array_equal(again.compositions, known.compositions)


def test_the_scale_is_that_of_the_training_split():
    """A mean atomic number over all training crystals, computed apart."""
    table = read_crystal_table(EMBEDDED, ["split", "atomic_numbers"])
    train = table.filter(pc.equal(table["split"].cast("string"), "train"))
    means = [np.mean(numbers) for numbers in train["atomic_numbers"].to_pylist()]
    scaler, place = known_fingerprints().scaler, STATISTICS.index("MagpieData mean Number")
    assert scaler.mean[place] == pytest.approx(np.mean(means), rel=1e-6)
    assert scaler.std[place] == pytest.approx(np.std(means), rel=1e-6)
    assert (scaler.std > 0).all()


def test_charges_do_not_matter():
    with_charges = Composition({"Na+": 1, "Cl-": 1})
    assert composition_fingerprint(with_charges) == pytest.approx(
        composition_fingerprint(Composition("NaCl"))
    )
