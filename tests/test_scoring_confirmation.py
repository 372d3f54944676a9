"""What confirms targets: physics of known crystals, and which of several values decides."""

from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, single_atom
from pymatgen.core import Lattice, Structure

from mattergen_lite.io.records import LearnedValue
from mattergen_lite.processes import Pool
from mattergen_lite.runs.tables import deciding_value
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.confirmation.confirming import confirm
from mattergen_lite.scoring.confirmation.errors import confirmation_error
from mattergen_lite.scoring.confirmation.gap_network import (
    crystal_graph,
    has_odd_electrons,
    load_gap_network,
    predict_band_gap,
)
from mattergen_lite.scoring.confirmation.moments import magnetic_density, magnetic_moments
from mattergen_lite.scoring.energy.elasticity import Elasticity, bulk_modulus
from mattergen_lite.scoring.energy.first_principles import FirstPrinciples
from mattergen_lite.scoring.energy.potentials.sources import load_potential, potential_source
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.property_result import Confirmed, PropertyResult
from mattergen_lite.scoring.property_results import decide_targets
from mattergen_lite.scoring.score import Score


def salt_like(cation: str, anion: str, a: float) -> Structure:
    """Rock salt, conventional cell."""
    sites = [[0] * 3, [0.5] * 3]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], sites)


def iron() -> Structure:
    return Structure(Lattice.cubic(2.83), ["Fe"] * 2, [[0] * 3, [0.5] * 3])


DIAMOND = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0] * 3])
SILICON_CARBIDE = Structure.from_spacegroup(
    "F-43m", Lattice.cubic(4.36), ["Si", "C"], [[0] * 3, [0.25] * 3]
)


@pytest.mark.parametrize(
    ("crystal", "experiment"),
    [(DIAMOND, 443.0), (SILICON_CARBIDE, 225.0), (salt_like("Mg", "O", 4.212), 160.0)],
    ids=["diamond", "SiC", "MgO"],
)
def test_the_deciding_potential_is_near_experiment(crystal, experiment):
    elasticity = bulk_modulus(crystal.get_primitive_structure(), load_potential("7net-l3i5"))
    assert elasticity.elasticity_error is None
    assert elasticity.bulk_modulus == pytest.approx(experiment, rel=0.2)


@pytest.mark.parametrize("copies", [(1, 1, 1), (2, 1, 1), (1, 3, 2)])
def test_parity_is_that_of_the_primitive_cell(copies):
    potassium = Structure(Lattice.cubic(5.3), ["K"] * 2, [[0] * 3, [0.5] * 3])  # 19 electrons
    for crystal, is_odd in ((potassium, True), (nacl(), False), (iron(), False)):
        atoms = crystal.to_ase_atoms(msonable=False).repeat(copies)
        assert has_odd_electrons(atoms) == is_odd


def test_an_odd_number_of_electrons_leaves_no_gap():
    """Without moments bands are filled by pairs: an electron more or less makes a metal."""
    sites = [[0] * 3, [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    for cations, a in (("BaTi", 4.0), ("SrTi", 3.9), ("CaZr", 4.1), ("BaZr", 4.2)):
        elements = [cations[:2], cations[2:], "O", "O", "O"]
        assert predict_band_gap(Structure(Lattice.cubic(a), elements, sites)) > 1.0
        doped = [cations[:2], "Ga" if cations[2:] == "Ti" else "In", "O", "O", "O"]
        assert predict_band_gap(Structure(Lattice.cubic(a), doped, sites)) < 0.5


def test_moments_are_those_of_magnets():
    """Body-centred iron has 2.2 µB an atom; MnO has five unpaired electrons; MgO and Cu none."""
    assert magnetic_moments(iron()) == pytest.approx([2.2, 2.2], abs=0.3)
    assert magnetic_density(iron()) == pytest.approx(2 * 2.2 / 2.83**3, rel=0.15)
    manganese, oxygen = magnetic_moments(salt_like("Mn", "O", 4.44))[[0, -1]]
    assert 4.0 < manganese < 5.0
    assert abs(oxygen) < 0.2
    assert magnetic_density(salt_like("Mg", "O", 4.212)) < 0.003
    assert magnetic_density(single_atom()) < 0.005


def test_moments_belong_to_the_crystal_not_to_its_cell():
    doubled = iron() * (2, 1, 1)
    assert magnetic_density(doubled) == pytest.approx(magnetic_density(iron()), rel=1e-3)


def test_moments_of_an_unknown_element_are_refused():
    with pytest.raises(ValueError, match="Po unsupported by chgnet"):
        magnetic_density(Structure(Lattice.cubic(3.36), ["Po"], [[0] * 3]))


@pytest.mark.parametrize(
    ("crystal", "low", "high"),
    [
        (nacl(), 3.5, 7.0),
        (salt_like("Mg", "O", 4.212), 3.0, 7.0),
        (quartz(), 4.0, 8.0),
        (DIAMOND, 2.5, 6.0),
        (iron(), 0.0, 0.0),
        (single_atom(), 0.0, 0.0),
    ],
    ids=["NaCl", "MgO", "quartz", "diamond", "Fe", "Cu"],
)
def test_insulators_have_gaps_and_metals_none(crystal, low, high):
    assert low <= predict_band_gap(crystal) <= high


def test_a_gap_belongs_to_the_crystal():
    """Origin, order of the atoms, cell and orientation change nothing."""
    crystal = perovskite()
    gap = predict_band_gap(crystal)
    shifted = crystal.copy().translate_sites(range(5), [0.13, 0.4, 0.77])
    permuted = Structure.from_sites([crystal[i] for i in (3, 0, 4, 2, 1)])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotated = Structure(crystal.lattice.matrix @ rotation, crystal.species, crystal.frac_coords)
    for same in (shifted, permuted, rotated, crystal * (1, 2, 1)):
        assert predict_band_gap(same) == pytest.approx(gap, abs=1e-3)
    assert predict_band_gap(nacl()) == pytest.approx(predict_band_gap(nacl_primitive()), abs=1e-3)


def test_merging_equal_atoms_changes_no_output(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    from train_gap_network import concatenate, merged_graph

    network = load_gap_network()
    for crystal in (quartz(), perovskite(), nacl()):
        atoms = crystal.to_ase_atoms(msonable=False)
        merged = merged_graph(atoms)
        assert merged.elements.shape[1] < len(atoms)
        both = concatenate([merged, crystal_graph(atoms)])
        first, second = network(both)
        assert first.tolist() == pytest.approx(second.tolist(), abs=1e-3)


# Which value decides


GUIDE = LearnedValue(310.0, 20.0, True, 262.0)


def asked(name: str, **changed: object) -> PropertyResult:
    """A target that the guide alone says is met."""
    stated = PropertyResult(
        property=name,
        target=320.0,
        value=GUIDE.value,
        method="regression",
        error=GUIDE.error,
        on_target=True,
        unit="GPa",
        bounds=(300.0, 400.0),
        guide=GUIDE,
    )
    return replace(stated, **changed)


def candidate(outcome: PropertyResult, **changed: object) -> Candidate:
    raw = Score(name="x")
    return Candidate(
        raw=raw, structure=nacl(), relaxed_structure=nacl(), outcomes=(outcome,), **changed
    )


def test_the_equation_of_state_decides_beside_the_guide():
    computed = Elasticity(bulk_modulus=254.0, elasticity_potential="7net-l3i5")
    judged = decide_targets(candidate(asked("bulk_modulus"), elasticity=computed))
    row = judged.outcomes[0].columns()
    assert judged.on_target is False
    assert row["confirmed_bulk_modulus"] == 254.0
    assert row["predicted_bulk_modulus"] == 310.0
    assert row["method_bulk_modulus"] == "equation of state"
    assert row["measured_bulk_modulus"] is None
    words = judged.outcomes[0].words
    assert words.startswith("bulk_modulus 254")
    assert words.endswith("by the equation of state (the guiding regression says 310)")
    assert decide_targets(judged) == judged


def test_without_an_equation_of_state_nothing_can_tell():
    failed = Elasticity(elasticity_error="7net-l3i5: no energy minimum")
    judged = decide_targets(candidate(asked("bulk_modulus"), elasticity=failed))
    assert judged.on_target is None
    assert judged.misses("on_target")
    assert "not confirmed: 7net-l3i5: no energy minimum" in judged.outcomes[0].words


def test_a_guide_alone_says_what_such_predictions_are_worth():
    words = asked("bulk_modulus").words
    assert words == (
        "bulk_modulus 310 ± 20 GPa predicted, not confirmed "
        "(generated crystals of such predictions have 262 on average)"
    )
    unmeasured = asked("bulk_modulus", guide=LearnedValue(310.0, 9.3), error=9.3).words
    assert unmeasured == (
        "bulk_modulus 310 ± 9.3 GPa predicted, not confirmed (the error is that for labelled "
        "crystals)"
    )


def test_dft_outranks_the_database_and_that_the_confirmation():
    confirmed = {"band_gap": Confirmed(method="network", value=2.0, error=0.4)}
    calculated = FirstPrinciples(dft_band_gap=3.1, dft_moment_per_atom=0.0)
    gap = asked("band_gap", target=3.0, bounds=None, value=3.0, guide=LearnedValue(3.0, 0.5))
    by_network = decide_targets(candidate(gap, confirmed=confirmed))
    assert (by_network.outcomes[0].method, by_network.on_target) == ("network", False)
    known = replace(gap, method="known", value=2.9)
    in_database = decide_targets(candidate(known, confirmed=confirmed))
    assert (in_database.outcomes[0].method, in_database.on_target) == ("known", True)
    by_dft = decide_targets(candidate(known, confirmed=confirmed, first_principles=calculated))
    assert (by_dft.outcomes[0].method, by_dft.outcomes[0].value) == ("DFT", 3.1)
    unfinished = FirstPrinciples(dft_band_gap=nan)
    assert (
        decide_targets(candidate(known, first_principles=unfinished)).outcomes[0].method == "known"
    )


def test_what_follows_from_the_structure_needs_no_confirmation():
    density = asked("density", method="structure", value=5.0, on_target=False, guide=None)
    assert decide_targets(candidate(density)).outcomes == (density,)


def test_only_what_would_be_delivered_has_an_equation_of_state():
    crystal = salt_like("Mg", "O", 4.212).get_primitive_structure()
    met = replace(candidate(asked("bulk_modulus")), relaxed_structure=crystal)
    missed = replace(candidate(asked("bulk_modulus", on_target=False)), relaxed_structure=crystal)
    raw = replace(met, relaxed_structure=None)
    unread = replace(met, raw=Score(name="y", error="cannot parse"))
    with Pool(0) as pool:
        decider = potential_source("chgnet")
        found = confirm([met, missed, raw, unread], decider, ("readable",), ResultCache(pool))
    assert [one.elasticity is not None for one in found] == [True, False, False, False]
    assert found[0].elasticity.bulk_modulus == pytest.approx(160, rel=0.25)
    assert found[0].on_target is False
    assert found[1:] == [missed, raw, unread]


def test_gaps_and_moments_of_all_relaxed_crystals_are_confirmed():
    gap = asked("band_gap", target=5.0, bounds=(3.0, 8.0), on_target=False)
    magnet = asked("magnetic_density", target=0.1, bounds=(0.1, 1.0))
    with Pool(0) as pool:
        (found,) = confirm(
            [replace(candidate(gap), outcomes=(gap, magnet))],
            potential_source("chgnet"),
            (),
            ResultCache(pool),
        )
    assert [one.method for one in found.outcomes] == ["network", "moments"]
    assert [one.on_target for one in found.outcomes] == [True, False]
    assert found.outcomes[0].value == pytest.approx(predict_band_gap(nacl()))


def test_errors_of_confirmations_are_measured():
    assert 0 < confirmation_error("equation of state, 7net-l3i5", 310.0) < 60
    assert 0 < confirmation_error("network", 3.0) < 1.5
    assert 0 < confirmation_error("moments", 0.12) < 0.1
    assert confirmation_error("equation of state, mine", 310.0) is None


def test_one_value_of_a_row_decides():
    row = {"measured_x": None, "confirmed_x": 0.0, "predicted_x": 3.0}
    assert deciding_value(row, "x") == 0.0
    assert deciding_value(row | {"measured_x": 2.0}, "x") == 2.0
    assert deciding_value({"predicted_x": 3.0}, "x") == 3.0
    assert deciding_value({}, "x") is None
