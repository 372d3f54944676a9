"""Match rates against pymatgen's matcher called directly, and against counts known beforehand."""

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from mattergen_lite.processes import Pool
from mattergen_lite.scoring.criteria.matching import PREDICTED
from mattergen_lite.scoring.metrics.prediction import displacements, predicted


@pytest.fixture(scope="module")
def pool():
    with Pool(0) as here:
        yield here


def cesium_chloride_type():
    """NaCl as it is not: a polymorph."""
    return Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def rattled(structure, distance, seed=0):
    shifts = np.random.default_rng(seed).normal(size=(len(structure), 3))
    shifts *= distance / np.linalg.norm(shifts, axis=1, keepdims=True)
    coords = structure.cart_coords + shifts
    return Structure(structure.lattice, structure.species, coords, coords_are_cartesian=True)


def rutile_of(structure):
    """Its elements at the sites of another type: a sample that is right in composition only."""
    symbols = sorted({site.specie.symbol for site in structure})
    return rutile().replace_species({"Ti": symbols[1], "O": symbols[0]}, in_place=False)


def test_in_order_as_the_field_counts(pool):
    """Match rate and RMSE of DiffCSP's definition, by pymatgen alone."""
    truths = [nacl_primitive(), rutile(), perovskite(), quartz()]
    samples = [rattled(nacl(), 0.1), rattled(rutile(), 0.2), perovskite(), rutile_of(quartz())]
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)
    pairs = zip(samples, truths, strict=True)
    expected = [matcher.get_rms_dist(sample, truth) for sample, truth in pairs]
    matched = [pair[0] for pair in expected if pair is not None]
    found = predicted(samples, truths, pool=pool)
    assert found.paired == "order"
    assert found.match_rate == len(matched) / 4
    assert found.rmse == pytest.approx(np.mean(matched), rel=1e-6)
    missing = 4 - len(matched)
    assert missing == 1
    assert found.crmse == pytest.approx((sum(matched) + PREDICTED.stol * missing) / 4, rel=1e-6)


def test_displacement_is_what_an_atom_was_moved_by():
    """One of two atoms moved by d: both by d/2 about the common origin."""
    moved = cesium_chloride_type()
    moved.translate_sites([1], [0.2, 0, 0], frac_coords=False)
    length = (moved.volume / 2) ** (1 / 3)
    assert displacements(cesium_chloride_type(), [moved]) == [pytest.approx(0.1 / length)]
    assert displacements(cesium_chloride_type(), [rutile()]) == [None]


@pytest.mark.parametrize("seed", range(4))
def test_displacements_near_the_limit_are_those_of_sample_and_truth(seed):
    """The matcher depends on the order there."""
    sample = rattled(quartz(), 1.5, seed)
    pair = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3).get_rms_dist(sample, quartz())
    assert displacements(quartz(), [sample]) == [pair and pytest.approx(pair[0])]


def test_a_polymorph_found_out_of_turn_counts_for_metre_only(pool):
    truths = [nacl_primitive(), cesium_chloride_type()]
    found = predicted(truths[::-1], truths, pool=pool)
    assert found.paired == "order"
    assert found.match_rate == 0
    assert found.rmse is None
    assert (found.metre, found.crmse) == (1, pytest.approx(0))
    assert found.sample_match_rate == 1


def test_duplicates_count_once(pool):
    """Three copies of one known crystal found, one other not: half, whichever way one looks."""
    truths = [nacl(), nacl_primitive(), nacl_primitive(), rutile()]
    samples = [nacl(), nacl_primitive(), cesium_chloride_type()]
    found = predicted(samples, truths, pool=pool)
    assert found.paired == "formula"
    assert (found.num_known, found.num_distinct, found.num_samples) == (4, 2, 3)
    assert found.match_rate == 0.75
    assert found.metre == 0.5
    assert found.sample_match_rate == 0.5


def test_what_cannot_be_read_matches_nothing(pool):
    found = predicted([None, rutile()], [nacl(), rutile()], pool=pool)
    assert found.paired == "order"
    assert found.match_rate == 0.5
    assert found.sample_match_rate == 0.5


def test_a_run_is_never_in_order(pool):
    found = predicted([nacl()], [nacl_primitive()], pool=pool, ordered=False)
    assert (found.paired, found.match_rate) == ("formula", 1)


def test_nothing_to_compare_is_refused(pool):
    with pytest.raises(ValueError, match="no known structures"):
        predicted([nacl()], [], pool=pool)
    with pytest.raises(ValueError, match="no sample has the composition"):
        predicted([nacl()], [rutile()], pool=pool)
