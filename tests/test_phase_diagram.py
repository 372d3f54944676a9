"""Phase diagrams stand on the embedded hull and say what the table says."""

import pytest
from matplotlib.image import imread
from pymatgen.core import Composition

from mattergen_lite.runs.figures import write_figures
from mattergen_lite.runs.phase_diagram import Placed, draw_phase_diagram, stable_phases
from mattergen_lite.scoring.known.hull import reference_hull

CANDIDATES = [
    Placed(formula="Li2S", e_above_hull=0.0, std=0.02),
    Placed(formula="LiS4", e_above_hull=0.15, std=0.05),
]


def judged(formula: str, system: str, above: float = 0.05) -> dict:
    return {
        "formula": formula,
        "chemical_system": system,
        "e_above_hull": above,
        "e_above_hull_std": 0.05,
    }


def test_the_known_phases_are_those_of_the_hull():
    phases = stable_phases(["Li", "S"], reference_hull())
    stable = {entry.composition.reduced_formula: entry for entry in phases.stable_entries}
    assert {"Li", "S", "Li2S"} <= set(stable)
    assert -1.8 < stable["Li2S"].energy_per_atom < -1.2  # eV/atom, Materials Project: -1.5


def test_a_candidate_stands_at_its_energy_above_the_hull():
    (axes,) = draw_phase_diagram(["Li", "S"], CANDIDATES).axes
    (marks,) = [line for line in axes.lines if line.get_marker() == "D"]
    hull = stable_phases(["Li", "S"], reference_hull())
    x, y = marks.get_data()
    assert x == pytest.approx([1 / 3, 4 / 5])
    for place, height in zip(CANDIDATES, y, strict=True):  # pymatgen's own hull of the same phases
        known = hull.get_hull_energy_per_atom(Composition(place.formula))
        assert height == pytest.approx(known + place.e_above_hull)


def test_a_triangle_of_three_elements_has_its_compounds(tmp_path):
    figure = draw_phase_diagram(["Li", "P", "S"], [Placed(formula="Li3PS4", e_above_hull=0.1)])
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"Li", "P", "S", "Li$_{2}$S"} <= labels
    figure.savefig(tmp_path / "one.png")
    assert imread(tmp_path / "one.png")[..., :3].std() > 0.02


@pytest.mark.parametrize("elements", [["Li"], ["Li", "Li"], ["Li", "P", "S", "O"]])
def test_other_numbers_of_elements_are_refused(elements):
    with pytest.raises(ValueError, match="two or three"):
        draw_phase_diagram(elements)


def test_runs_get_the_figures_that_fit_them(tmp_path):
    rows = [
        judged("Li3P", "Li-P") | {"target_band_gap": 2.0, "measured_band_gap": 1.4},
        judged("Li2S", "Li-S") | {"target_band_gap": 2.0, "measured_band_gap": None},
    ]
    names = {path.stem for path in write_figures(tmp_path, rows)}
    assert {"phase_diagram", "targets", "elements"} <= names
    more = [judged("LiF", "F-Li"), judged("Na2S", "Na-S")]  # four elements: no such picture
    names = {path.stem for path in write_figures(tmp_path, more)}
    assert not {"phase_diagram", "targets"} & names
    assert not (tmp_path / "phase_diagram.png").exists()
