"""Flags on compositions and structures whose problem is known, and the audit of a set."""

import pytest
from crystals import li3ps4, nacl, perovskite, rutile, single_atom, triclinic
from matplotlib.image import imread
from pymatgen.core import Composition, Lattice, Structure
from test_scoring_novelty import judged, reference_of, rutile_of, trirutile

from mattergen_lite.chemistry.elements import element_groups, symbols
from mattergen_lite.scoring.criteria.credibility import (
    credibility,
    mean_concentration,
    members,
    with_novelty,
)
from mattergen_lite.scoring.criteria.disorder import (
    could_share_a_site,
    mixable_groups,
    shared_sites,
)
from mattergen_lite.scoring.metrics.audit import UNSEEN_SYSTEM, audit


def flags(structure: Structure) -> set[str]:
    return set(credibility(structure, symprec=0.1).flags)


def brass() -> Structure:
    return Structure(Lattice.cubic(2.95), ["Cu", "Zn"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("one", "other", "mix"),
    [
        ("Ta", "Cr", True),
        ("Fe", "Mg", True),  # olivine
        ("Na", "Ca", True),  # plagioclase
        ("La", "Sr", True),
        ("O", "F", True),
        ("S", "Cl", True),  # argyrodite
        ("Li", "Na", False),
        ("Na", "Cl", False),
        ("Ba", "Ti", False),
        ("Al", "Si", False),  # 25% apart, although feldspars disorder them
        ("He", "Ne", False),
    ],
)
def test_ions_that_share_sites(one, other, mix):
    assert could_share_a_site(one, other, metallic=False) == mix
    assert could_share_a_site(other, one, metallic=False) == mix


def test_groups():
    assert mixable_groups(["Fe", "Mg", "O", "Si"]) == (("Fe", "Mg"),)
    assert mixable_groups(["Li", "Mg", "O", "F"]) == (("F", "O"), ("Li", "Mg"))
    assert mixable_groups(["Cu", "Zn"]) == (("Cu", "Zn"),)
    assert mixable_groups(["Na", "Cl"]) == ()


def test_trirutile_is_rutile_when_cations_are_not_told_apart():
    shared = shared_sites(trirutile(), symprec=0.1)
    assert shared is not None
    assert shared.groups == (("Cr", "Ta"),)
    assert shared.space_group == 136
    assert shared.num_atoms_primitive == 6
    assert shared_sites(perovskite(), symprec=0.1) is None


def test_flags_and_their_sentences():
    found = credibility(trirutile(), symprec=0.1)
    assert "ordered_approximant" in found.flags
    reason = found.flag_reasons[found.flags.index("ordered_approximant")]
    assert reason == (
        "Cr/Ta could share a site: merged, the crystal has space group 136 "
        "and a primitive cell of 6 atoms."
    )
    assert "all_metal" in flags(brass())
    assert flags(single_atom()) == set()
    assert flags(nacl()) == set()
    assert "radioactive" in flags(nacl().replace_species({"Na": "Tc"}))
    assert "scarce" in flags(rutile_of("Ru"))
    assert "concentrated_supply" in flags(rutile_of("Ce"))


def test_flags_and_constraints_mean_the_same_elements():
    """What `--exclude scarce,radioactive` leaves out is what the judge would flag, and no more."""
    groups = element_groups()
    for symbol in symbols()[1:]:
        found = Composition(symbol)
        assert bool(members(found, "scarce")) == (symbol in groups["scarce"]), symbol
        assert bool(members(found, "radioactive")) == (symbol in groups["radioactive"]), symbol
    assert {"scarce", "radioactive"} <= flags(nacl().replace_species({"Na": "Pu"}))
    assert credibility(rutile_of("Ru"), symprec=0.1).rarest_abundance == pytest.approx(0.001)


def test_dopant_like():
    doped = nacl() * (2, 1, 1)
    doped[0] = "K"
    assert "dopant_like" in flags(doped)
    found = credibility(doped, symprec=0.1)
    assert found.smallest_element_fraction == pytest.approx(1 / 16)
    assert "K is only 6.2% of the atoms." in found.flag_reasons


def test_flags_from_novelty():
    found = judged({"TaCr2O6": trirutile()}, reference_of({"mp-1": rutile_of("Cr")}))["TaCr2O6"]
    flagged = with_novelty(credibility(trirutile(), symprec=0.1), found)
    assert flagged.flags[-2:] == ("known_disordered_phase", "unknown_chemical_system")
    assert flagged.flag_reasons[-2] == "With Cr/Ta on shared sites it equals known mp-1."


def test_concentration_of_supply():
    assert mean_concentration(Composition("Ce"), "p") == 9500
    assert mean_concentration(Composition("NaCl"), "p") == pytest.approx(1343, abs=1)
    assert (
        mean_concentration(Composition("CeH2"), "p") == 9500
    )  # hydrogen has none and weighs little
    assert mean_concentration(Composition("LiH"), "p") is None  # an eighth of it


def test_audit(tmp_path):
    known = {"salt": nacl(), "rutile": rutile(), "brass": brass(), "perovskite": perovskite()}
    made = [nacl(), brass(), li3ps4(), triclinic(), rutile_of("Tc")]
    found = audit((structure.composition for structure in made), reference_of(known))
    assert found.num_structures == 5
    assert found.traits["all metal"] == (0.2, 0.25)
    assert found.traits["radioactive"] == (0.2, 0)
    assert found.traits[UNSEEN_SYSTEM] == (0.6, 0)
    assert found.element_shares["Na"] == (0.2, 0.25)
    assert found.element_shares["O"] == (0.4, 0.5)
    assert found.overrepresentation["Li"] == pytest.approx(1)
    assert "unseen chemical system" in found.text()
    found.write_png(tmp_path / "audit.png")
    assert imread(tmp_path / "audit.png").shape[1] > 1000
    with pytest.raises(ValueError, match="nothing to audit"):
        audit([], reference_of(known))
