"""The reference hull against pymatgen's phase diagrams."""

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from mattergen_lite.scoring.known.hull import ReferenceHull, reference_hull

SYSTEM = frozenset({"Li", "Fe", "P", "O"})


@pytest.fixture(scope="module")
def phase_diagram():
    known = reference_hull().competitors(SYSTEM)
    compositions = [Composition(formula) for formula in known.formulas]
    return PhaseDiagram(
        [
            PDEntry(composition, energy * composition.num_atoms)
            for composition, energy in zip(compositions, known.energies, strict=True)
        ]
    )


@pytest.mark.parametrize("formula", ["LiFePO4", "Li3FeO7", "Fe5P3", "LiP7O3", "Li2Fe3P4O11", "O2"])
def test_linear_programme_agrees_with_pymatgen(phase_diagram, formula):
    composition = Composition(formula)
    ours = reference_hull().decompose(composition)
    theirs = phase_diagram.get_hull_energy_per_atom(composition)
    assert ours.energy_per_atom == pytest.approx(theirs, abs=1e-6)
    products = {
        entry.composition.reduced_formula: share
        for entry, share in phase_diagram.get_decomposition(composition).items()
    }
    assert dict(ours.products) == pytest.approx(products, abs=1e-4)


def test_decomposition_products_are_named_with_their_shares_of_the_atoms():
    decomposition = reference_hull().decompose(Composition("Na2Cl"))
    assert str(decomposition) == "0.667 NaCl + 0.333 Na"
    assert sum(share for _, share in decomposition.products) == pytest.approx(1)


def test_the_hull_lies_between_its_compounds_and_elements_are_at_zero():
    hull = ReferenceHull(["NaCl"], np.array([-2.0]))
    heights = {"NaCl": -2.0, "Na3Cl": -1.0, "Na": 0.0}
    for formula, height in heights.items():
        assert hull.decompose(Composition(formula)).energy_per_atom == pytest.approx(height)


def test_elements_missing_from_the_reference_are_named():
    with pytest.raises(ValueError, match="Og, Rn not in the reference hull"):
        reference_hull().decompose(Composition("RnOg2O"))


def test_every_element_of_the_reference_is_an_end_point():
    hull = reference_hull()
    for symbol in hull.elements:  # Na, S, Se, Cs are on the table only as unstable polymorphs
        assert hull.decompose(Composition(symbol)).energy_per_atom == pytest.approx(0, abs=1e-9)
