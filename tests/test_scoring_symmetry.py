"""Space groups and standard cells of crystals with known answers."""

import numpy as np
import pytest
import spglib
from crystals import (
    li3ps4,
    nacl,
    nacl_primitive,
    perovskite,
    quartz,
    rutile,
    single_atom,
    triclinic,
)
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from mattergen_lite.scoring.criteria.symmetry import (
    conventional_structure,
    crystal_system,
    primitive_structure,
    space_group_of,
    symmetry,
)


@pytest.mark.parametrize(
    ("crystal", "number", "symbol", "system", "point_group", "wyckoff"),
    [
        (nacl, 225, "Fm-3m", "cubic", "m-3m", "Na:4a Cl:4b"),
        (nacl_primitive, 225, "Fm-3m", "cubic", "m-3m", "Na:4a Cl:4b"),
        (rutile, 136, "P4_2/mnm", "tetragonal", "4/mmm", "Ti:2a O:4f"),
        (perovskite, 221, "Pm-3m", "cubic", "m-3m", "Sr:1a Ti:1b O:3c"),
        (quartz, 154, "P3_221", "trigonal", "32", "Si:3a O:6c"),
        (li3ps4, 121, "I-42m", "tetragonal", "-42m", "Li:2b Li:4d P:2a S:8i"),
        (triclinic, 1, "P1", "triclinic", "1", "Li:1a P:1a S:1a O:1a"),
        (single_atom, 225, "Fm-3m", "cubic", "m-3m", "Cu:4a"),
    ],
)
def test_known_crystals(crystal, number, symbol, system, point_group, wyckoff):
    found = symmetry(crystal(), symprec=0.01)
    assert found.space_group == number
    assert found.space_group_symbol == symbol
    assert found.crystal_system == system
    assert found.point_group == point_group
    assert found.wyckoff_letters == wyckoff
    assert found.space_groups == {0.01: number, 0.03: number, 0.1: number}


def test_cell_sizes():
    found = symmetry(nacl_primitive())
    assert (found.num_atoms_primitive, found.num_atoms_conventional) == (2, 8)
    assert len(primitive_structure(nacl(), symprec=0.01)) == 2
    assert len(conventional_structure(nacl_primitive(), symprec=0.01)) == 8


def test_tolerance_decides_on_a_rattled_crystal():
    rattled = quartz().perturb(0.03, seed=0)
    found = symmetry(rattled, symprec=0.1)
    assert found.space_group == 154
    assert found.space_groups[0.01] == 1
    refined = conventional_structure(rattled, symprec=0.1)
    assert space_group_of(refined, 0.001) == 154
    assert StructureMatcher().fit(refined, quartz())


def test_crystal_systems():
    numbers = (1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230)
    systems = [crystal_system(number) for number in numbers]
    assert systems[::2] == systems[1::2]
    assert len(set(systems)) == 7
    with pytest.raises(ValueError, match="space group 231"):
        crystal_system(231)


@pytest.mark.parametrize("old_handling", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_overlapping_atoms_are_refused(monkeypatch, old_handling):
    """Whichever way of reporting errors another package has asked spglib for."""
    monkeypatch.setattr(spglib.error, "OLD_ERROR_HANDLING", old_handling)
    overlapping = nacl()
    overlapping.append("Na", [0.001, 0, 0])
    with pytest.raises(ValueError, match="do atoms overlap"):
        symmetry(overlapping)
    assert space_group_of(overlapping, 0.1) == 1


@pytest.mark.parametrize("where", ["cell", "coordinates"])
def test_what_is_not_finite_has_no_symmetry(where):
    """spglib would end the process with a segmentation fault."""
    lattice = np.eye(3) * (np.nan if where == "cell" else 4)
    broken = Structure(lattice, ["Na"], [[np.nan if where == "coordinates" else 0, 0, 0]])
    with pytest.raises(ValueError, match="not finite"):
        symmetry(broken)
    assert space_group_of(broken, 0.1) == 1
