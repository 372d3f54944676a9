"""Stability verdicts of known crystals, and statistics that mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
from crystals import nacl_primitive, rutile
from pymatgen.core import Composition, Lattice, Structure

from mattergen_lite.scoring.energy.calibration import (
    MAX_DEVIATION,
    Calibration,
    ErrorModel,
    Trend,
    calibration,
    calibrations,
    error_traits,
)
from mattergen_lite.scoring.energy.fitting import (
    NUM_FOLDS,
    cross_fitted,
    fit_error_models,
    fit_references,
)
from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import Relaxation, RelaxationLimits, relax
from mattergen_lite.scoring.energy.stability import (
    Measurement,
    Stability,
    assess,
    measurement,
    potential_energy,
)
from mattergen_lite.scoring.energy.symmetry_breaking import Release
from mattergen_lite.scoring.potential_runner import is_confirmed
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED

AS_IS = RelaxationLimits(max_steps=0)


def fit_hull_model(*labels, **settings):
    """The error model of labels comparable to the hull."""
    return fit_error_models(*labels, **settings)[""]


def judge_stability(
    structure: Structure,
    relaxer: Potential,
    *others: Potential,
    known: bool = False,
    limits: RelaxationLimits | None = None,
) -> tuple[Relaxation, Stability]:
    relaxation = relax(structure, relaxer, limits, symprec=SYMPREC_GENERATED)
    measured = measurement(relaxation, structure.composition, relaxer.name)
    energies = {
        one.name: potential_energy(relaxation.structure, one).energy_per_atom for one in others
    }
    measured = replace(measured, energies_per_atom={**measured.energies_per_atom, **energies})
    names = [potential.name for potential in (*others, relaxer)]
    stability = assess(
        measured, decider=names[0], second_opinion=names[1] if others else None, known=known
    )
    return relaxation, stability


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet")


def test_rock_salt_is_stable(chgnet):
    relaxation, stability = judge_stability(nacl_primitive(), chgnet, known=True)
    assert relaxation.converged
    assert stability.e_above_hull == pytest.approx(0, abs=0.05)
    assert stability.decomposition == "1 NaCl"
    assert stability.formation_energy_per_atom == pytest.approx(-2.11, abs=0.06)
    assert stability.probability_metastable > 0.9
    assert stability.potential == stability.relaxed_with == "chgnet"
    assert stability.second_opinion == ""
    assert stability.stability_error is None


def released(**energy_changes: float) -> tuple[Measurement, Measurement]:
    """Before and after a release from Fm-3m to Cm that changed energies (eV/atom) so."""
    before = Measurement(
        relaxed_with="chgnet",
        relaxation=Relaxation(constrained_space_group=225),
        energies_per_atom=dict.fromkeys(energy_changes, -4.0),
        errors={},
    )
    change = energy_changes["chgnet"]
    freed = Release(
        relaxation=Relaxation(), space_group=8, energy_change=change, accepted=change < 0
    )
    after = {name: -4.0 + one for name, one in energy_changes.items()}
    return before, replace(before, energies_per_atom=after, release=freed)


def test_a_release_is_confirmed_by_the_potential_that_decides():
    names = ("chgnet", "decider")
    assert is_confirmed(*released(chgnet=-0.010, decider=-0.020), names)
    assert not is_confirmed(*released(chgnet=-0.010, decider=0.028), names)  # Er2ZnRh
    assert not is_confirmed(*released(chgnet=-0.010, decider=-0.002), names)
    assert not is_confirmed(*released(chgnet=-0.003, decider=-0.020), names)
    assert is_confirmed(*released(chgnet=-0.010, decider=0.028), ("chgnet",))
    before, after = released(chgnet=-0.010, decider=-0.020)
    failed = replace(after, energies_per_atom={"chgnet": -4.010}, errors={"decider": "no memory"})
    assert not is_confirmed(before, failed, names)


def test_stretched_rock_salt_is_not(chgnet):
    stretched = nacl_primitive().scale_lattice(1.5 * nacl_primitive().volume)
    _, stability = judge_stability(stretched, chgnet, limits=AS_IS)
    assert stability.e_above_hull > 0.15
    assert stability.probability_metastable < 0.1
    assert not stability.relaxation_converged


def test_wrong_composition_is_above_the_hull_and_says_what_it_becomes(chgnet):
    inverted = rutile().copy()
    inverted.replace_species({"Ti": "O", "O": "Ti"})
    _, stability = judge_stability(inverted, chgnet, limits=AS_IS)
    assert stability.e_above_hull > 0.3
    assert "Ti" in stability.decomposition
    assert stability.probability_stable < 0.02


def bromide(metal: str) -> Structure:
    """A tribromide as ReO3 is."""
    sites = [[0, 0, 0], [0.5, 0, 0]]
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(5.6), [metal, "Br"], sites)


def test_a_hole_in_the_hull_is_no_discovery(chgnet):
    """The reference hull has DyBr3 and no ErBr3, which is as stable."""
    _, dysprosium = judge_stability(bromide("Dy"), chgnet, limits=AS_IS)
    _, erbium = judge_stability(bromide("Er"), chgnet, limits=AS_IS)
    assert dysprosium.formation_energy_per_atom == pytest.approx(
        erbium.formation_energy_per_atom, abs=0.15
    )
    assert dysprosium.stability_error is None
    assert dysprosium.e_above_hull > -dysprosium.e_above_hull_std
    assert "competing phase is missing from the hull" in erbium.stability_error
    assert "Er" in erbium.stability_error
    assert erbium.e_above_hull_raw < -1
    assert np.isnan([erbium.e_above_hull, erbium.probability_metastable]).all()


def test_a_crystal_far_below_the_hull_has_no_probabilities():
    """K3TaO4 was at -0.157 ± 0.053 with a probability of 1."""
    known = nacl_primitive()
    model = ErrorModel(offset=0.0, scale=0.03, elements={}, element_prior=0.0)
    own = Calibration(references={"Na": -1.0, "Cl": -2.0}, novel=model, known=model)
    for depth, is_hole in ((0.157, True), (0.14, False)):
        measured = Measurement(
            relaxed_with="chgnet",
            relaxation=Relaxation(structure=known, energy_per_atom=-3.5 - depth, converged=True),
            energies_per_atom={"chgnet": -3.5 - depth},
            errors={},
            hull_energy_per_atom=-2.0,
            decomposition="1 NaCl",
        )
        found = assess(measured, decider="chgnet", calibrated={"chgnet": own})
        assert found.e_above_hull_raw == pytest.approx(-depth)
        assert (found.stability_error is not None) == is_hole
        assert np.isnan(found.probability_metastable) == is_hole


def test_failures_are_rows_with_a_reason(chgnet):
    radon = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])
    relaxation, stability = judge_stability(radon, chgnet)
    assert stability.stability_error == relaxation.error
    assert "Rn unsupported" in stability.stability_error
    assert np.isnan(stability.e_above_hull)
    exploded = Measurement(
        relaxed_with="chgnet",
        relaxation=Relaxation(error="it exploded"),
        energies_per_atom={},
        errors={},
    )
    failed = assess(exploded, decider="chgnet")
    assert failed.stability_error == "it exploded"


@pytest.mark.parametrize("formula", ["LiFePO4", "Ni3Al", "PuN"])
def test_stated_uncertainty_is_ranked_as_it_should_be(formula):
    composition = Composition(formula)
    for name in calibrations():
        novel = calibration(name).novel.at(composition)
        assert novel.std > calibration(name).known.at(composition).std
    accurate, cheap = calibration("7net-l3i5"), calibration("chgnet")
    if formula != "PuN":  # both miss compounds of plutonium by 0.24 eV/atom
        assert accurate.novel.at(composition).std < cheap.novel.at(composition).std


def test_unknown_calibration_names_the_known_ones():
    with pytest.raises(ValueError, match="no calibration of 'mace': expected one of chgnet"):
        calibration("mace")


@pytest.mark.slow
def test_cascade_reports_both_opinions(chgnet):
    pytest.importorskip("sevenn")
    decider = load_potential("7net-l3i5")
    _, stability = judge_stability(nacl_primitive(), chgnet, decider, known=True)
    assert stability.potential == "7net-l3i5"
    assert stability.second_opinion == "chgnet"
    assert stability.e_above_hull == pytest.approx(0, abs=0.03)
    assert not stability.opinions_disagree


def test_formation_energy_subtracts_the_references():
    model = ErrorModel(offset=0.0, scale=0.01, elements={}, element_prior=0.06)
    one = Calibration(references={"Na": -1.0, "Cl": -2.0}, novel=model, known=model)
    assert one.formation_energy(Composition("NaCl3"), -3.0) == pytest.approx(-3.0 + 1.75)


def test_fitted_references_recover_a_shift_and_ignore_an_outlier():
    rng = np.random.default_rng(0)
    formulas = ["NaCl", "Na2O", "NaClO3", "Cl2O", "Na3ClO", "NaO2"] * 30
    compositions = [Composition(formula) for formula in formulas]
    own, true = {"Na": -1.0, "Cl": -2.0, "O": -5.0}, {"Na": -1.1, "Cl": -2.0, "O": -4.95}
    formation = rng.normal(-1, 0.5, len(formulas))
    energies = formation + [
        sum(true[element.symbol] * c.get_atomic_fraction(element) for element in c)
        for c in compositions
    ]
    energies[0] += 3.0
    fitted = fit_references(compositions, energies, formation, own)
    assert fitted == pytest.approx(true, abs=0.01)


def test_fitted_error_model_recovers_its_parameters_despite_outliers():
    rng = np.random.default_rng(0)
    true = {"Na": 0.05, "Cl": -0.05, "O": 0.02, "Fe": 0.0}
    shares = rng.dirichlet(np.ones(4), 2000)
    compositions = [Composition(dict(zip(true, row, strict=True))) for row in shares]
    errors = 0.08 + shares @ list(true.values()) + 0.03 * rng.standard_t(4, 2000)
    errors[:20] += 5.0
    fitted = fit_hull_model(compositions, errors, element_prior=0.06)
    for formula in ("NaCl", "Fe2O3", "NaFeO2"):
        composition = Composition(formula)
        expected = 0.08 + sum(
            composition.get_atomic_fraction(symbol) * mean for symbol, mean in true.items()
        )
        assert fitted.at(composition).location == pytest.approx(expected, abs=0.006)
    assert fitted.scale == pytest.approx(0.03, rel=0.1)


def test_shifts_of_labels_are_told_apart_from_errors_of_the_potential():
    """Labels of other pseudopotentials lie off by element; the potential is no worse for them."""
    rng = np.random.default_rng(0)
    own, shift = {"Na": 0.04, "Cl": -0.02, "Cu": 0.0}, {"Na": 0.0, "Cl": 0.05, "Cu": 0.3}
    shares = rng.dirichlet(np.ones(3), 1200)
    compositions = [Composition(dict(zip(own, row, strict=True))) for row in shares]
    sets = np.array(["", "theirs"])[rng.integers(2, size=len(shares))]
    errors = shares @ list(own.values()) + 0.01 * rng.standard_t(3, len(shares))
    errors += (sets == "theirs") * (shares @ list(shift.values()))
    models = fit_error_models(compositions, errors, 0.06, sets.tolist())
    copper = Composition("NaCu3")
    assert models[""].at(copper).location == pytest.approx(0.01, abs=0.005)
    assert models["theirs"].at(copper).location == pytest.approx(0.235, abs=0.01)
    blind = fit_hull_model(compositions, errors, 0.06)
    assert blind.at(copper).location > 0.08
    assert models[""].scale < blind.scale / 2
    on_frames = cross_fitted(compositions, errors, 0.06, sets.tolist())
    left = errors - [one.location for one in on_frames]
    assert abs(left[sets == "theirs"].mean()) < 0.005
    assert fit_hull_model(compositions, errors, 0.06, sets.tolist()) == models[""]


def test_what_a_crystal_shows_shifts_and_widens_its_error():
    """Errors grow with disagreement and with plutonium, and shift with disagreement."""
    rng = np.random.default_rng(0)
    symbols = ["Na", "Cl", "Pu"]
    shares = rng.dirichlet(np.ones(3), 3000)
    compositions = [Composition(dict(zip(symbols, row, strict=True))) for row in shares]
    disagreement = rng.normal(0, 0.05, 3000)
    traits = [{"disagreement": value, "constant": 1.0} for value in disagreement]
    scales = 0.02 * np.exp(disagreement / 0.05 * 0.3 + 2.0 * shares[:, 2])
    errors = -0.2 * disagreement + scales * rng.standard_t(3, 3000)
    fitted = fit_hull_model(compositions, errors, 0.06, traits=traits)
    assert set(fitted.trends) == {"disagreement"}  # what is the same everywhere tells nothing
    trend = fitted.trends["disagreement"]
    assert trend.offset == pytest.approx(-0.2 * trend.spread, abs=0.002)
    assert trend.log_scale == pytest.approx(0.3, abs=0.06)
    salt = Composition("NaCl")
    widths = {symbol: offset.log_scale for symbol, offset in fitted.elements.items()}
    assert widths["Pu"] - widths["Na"] == pytest.approx(2.0, abs=0.3)
    assert fitted.at(Composition("Pu")).scale > 3 * fitted.at(salt).scale
    calm, torn = (fitted.at(salt, {"disagreement": value}) for value in (0.0, 0.05))
    assert 1.1 < torn.scale / calm.scale < np.exp(0.3)  # beside what the offset is uncertain by
    assert torn.location - calm.location == pytest.approx(-0.01, abs=0.002)
    far = trend.centre + MAX_DEVIATION * trend.spread
    assert fitted.at(salt, {"disagreement": 9.0}) == fitted.at(salt, {"disagreement": far})
    centre = fitted.at(salt, {"disagreement": trend.centre})
    assert fitted.at(salt) == fitted.at(salt, {"disagreement": np.nan}) == centre


def test_verdicts_know_how_far_potentials_are_apart_and_how_far_atoms_moved():
    trends = {
        name: Trend(centre=0.0, spread=1.0, offset=0.0, log_scale=log_scale)
        for name, log_scale in (("disagreement", 1.0), ("log_movement", 0.5))
    }
    model = ErrorModel(offset=0.0, scale=0.01, elements={}, element_prior=0.0, trends=trends)
    own = Calibration(references={"Na": -1.0, "Cl": -2.0}, novel=model, known=model)
    stated = []
    for relaxed, rmsd in ((-3.5, 1.0), (-4.5, 1.0), (-3.5, 2.0)):
        measured = Measurement(
            relaxed_with="chgnet",
            relaxation=Relaxation(structure=nacl_primitive(), rmsd=rmsd, converged=True),
            energies_per_atom={"accurate": -3.5, "chgnet": relaxed},
            errors={},
            hull_energy_per_atom=-2.0,
        )
        found = assess(measured, decider="accurate", calibrated={"accurate": own, "chgnet": own})
        stated.append(found.e_above_hull_std)
    assert stated[1] / stated[0] == pytest.approx(np.e)
    assert stated[2] / stated[0] == pytest.approx(np.exp(0.5 * np.log(2.003 / 1.003)))


def test_traits_are_unknown_where_their_measurements_are():
    assert np.isnan(error_traits(0.1)["disagreement"])
    assert error_traits(0.1, 0.05, 0.2)["disagreement"] == pytest.approx(0.05)
    shipped = calibration("7net-l3i5").novel
    agreed = shipped.at(Composition("Li2S"), error_traits(0.05, 0.05, 0.02))
    opposed = shipped.at(Composition("Li2S"), error_traits(0.05, 0.25, 0.02))
    assert opposed.std > 1.2 * agreed.std  # CHGNet is rarely the less optimistic of the two


def test_an_error_model_of_as_many_elements_as_crystals_has_a_scale():
    compositions = [Composition(f"{a}{b}") for a, b in (("Na", "Cl"), ("K", "Br"), ("Li", "F"))]
    fitted = fit_hull_model(compositions, np.array([0.3, -0.2, 0.1]), element_prior=10.0)
    assert 0 < fitted.scale < 1


def test_elements_without_evidence_widen_the_error():
    shares = np.random.default_rng(0).dirichlet(np.ones(8), 400)
    symbols = ["Na", "Cl", "O", "Fe", "Li", "S", "Al", "Ti"]
    compositions = [Composition(dict(zip(symbols, row, strict=True))) for row in shares]
    fitted = fit_hull_model(compositions, np.linspace(-0.05, 0.15, 400), element_prior=0.06)
    seen, unseen = fitted.at(Composition("NaCl")), fitted.at(Composition("PuU"))
    assert unseen.scale**2 == pytest.approx(fitted.scale**2 + 0.06**2 / 2)
    assert unseen.std > seen.std


def test_cross_fitted_errors_know_nothing_of_the_chemical_system():
    pairs = [("Li", "F"), ("Na", "Cl"), ("K", "Br"), ("Rb", "I"), ("Mg", "O"), ("Ca", "S")]
    compositions = [Composition({a: 1, b: n}) for a, b in pairs for n in (1, 2, 3)] * 10
    errors = np.array([0.3 if "Na" in one else 0.0 for one in compositions])
    whole = fit_hull_model(compositions, errors, element_prior=0.3)
    assert whole.at(Composition("NaCl")).location == pytest.approx(0.3, abs=0.05)
    predicted = cross_fitted(compositions, errors, element_prior=0.3)
    own = [e.location for one, e in zip(compositions, predicted, strict=True) if "Na" in one]
    np.testing.assert_allclose(own, 0, atol=0.05)  # others have no error, and say so


def test_few_chemical_systems_are_split_by_crystals():
    errors = np.linspace(-0.1, 0.1, 30)
    predicted = cross_fitted([Composition("NaCl")] * 30, errors, element_prior=0.06)
    assert len(predicted) == 30
    assert len({one.location for one in predicted}) == NUM_FOLDS


def test_probability_of_an_even_bet_and_of_certainty():
    model = ErrorModel(offset=0.05, scale=0.02, elements={}, element_prior=0.0)
    error = model.at(Composition("NaCl"))
    assert error.probability_below(0.1, 0.05) == pytest.approx(0.5)
    assert error.probability_below(0.1, -0.5) > 0.999
    assert error.probability_below(0.0, 0.1) < 0.01
    assert error.std == pytest.approx(0.02 * 3**0.5)
