"""Inputs of Quantum ESPRESSO, ABINIT, CP2K and GPAW: the same crystal, read back by ASE."""

import re

import numpy as np
import pytest
from ase.io import read
from ase.io.cp2k import read_cp2k_restart
from crystals import nacl_primitive, rutile, triclinic
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from mattergen_lite.runs.dft_codes import CODES, parse_codes
from mattergen_lite.runs.vasp import write_other_inputs, write_shortlist_inputs

OTHERS = CODES[1:]


def nickel_oxide():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def read_back(folder, code):
    """The crystal that a program would read."""
    if code == "cp2k":
        with (folder / "crystal.inp").open() as file:
            return read_cp2k_restart(file)
    name, form = {
        "espresso": ("pw.in", "espresso-in"),
        "abinit": ("crystal.abi", "abinit-in"),
        "gpaw": ("crystal.extxyz", "extxyz"),
    }[code]
    return read(folder / name, format=form)


def mesh_of(folder, code):
    """The mesh of k points that a program would take."""
    patterns = {
        "espresso": ("pw.in", r"K_POINTS automatic\n(\d+) (\d+) (\d+) +0 0 0"),
        "abinit": ("crystal.abi", r"ngkpt\s+(\d+)\s+(\d+)\s+(\d+)"),
        "cp2k": ("crystal.inp", r"SCHEME MACDONALD (\d+) (\d+) (\d+)"),
        "gpaw": ("relax.py", r"\"size\": \((\d+), (\d+), (\d+)\), \"gamma\": True"),
    }
    name, pattern = patterns[code]
    return [int(number) for number in re.search(pattern, (folder / name).read_text()).groups()]


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("crystal", [triclinic, rutile, nacl_primitive])
def test_a_program_reads_the_same_crystal_and_the_mesh_of_vasp(tmp_path, crystal, code):
    write_other_inputs(crystal(), tmp_path, [code])
    atoms, expected = read_back(tmp_path / code, code), crystal().get_sorted_structure()
    np.testing.assert_allclose(atoms.cell.array, expected.lattice.matrix, atol=1e-7)
    assert atoms.numbers.tolist() == list(expected.atomic_numbers)
    shift = atoms.get_scaled_positions(wrap=False) - expected.frac_coords
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-7)
    theirs = MPRelaxSet(expected).kpoints.kpts[0]
    assert np.abs(np.subtract(mesh_of(tmp_path / code, code), theirs)).max() <= 1  # even or odd


@pytest.mark.parametrize("code", OTHERS)
def test_moments_start_as_those_of_vasp(tmp_path, code):
    write_other_inputs(nickel_oxide(), tmp_path, [code])
    folder = tmp_path / code
    if code == "cp2k":
        kinds = re.findall(r"&KIND (\w+).*?MAGNETIZATION (\S+)", text_of(folder), re.DOTALL)
        assert dict(kinds) == {"Ni": "5", "O": "0.6"}
        return
    moments = read_back(folder, code).get_initial_magnetic_moments()
    if code == "espresso":
        found = re.findall(r"starting_magnetization\(\d\)\s*=\s*(\S+)", text_of(folder))
        assert sorted(float(number) for number in found) == pytest.approx([0.06, 0.5])
        return
    assert moments.tolist() == pytest.approx([5.0] * 4 + [0.6] * 4)


def text_of(folder):
    return "".join(path.read_text() for path in sorted(folder.iterdir()))


@pytest.mark.parametrize(
    ("code", "lines"),
    {
        "espresso": [
            r"ecutwfc += 80\n", r"ecutrho += 320\n", "calculation += 'vc-relax'", "Ti.UPF",
            r"degauss += 0\.003675", "nspin += 2",
        ],
        "abinit": [
            r"ecut 1088\.45\d+ eV", "ixc 11", "optcell 2", r"tsmear 0\.05 eV", "Ti.psp8",
            r"shiftk\s+0\s+0\s+0", "occopt 7", "nsppol 2",
        ],
        "cp2k": ["XC_FUNCTIONAL PBE", r"CUTOFF \[Ry\] 600", "RUN_TYPE CELL_OPT", r"\[K\] 580\.2"],
        "gpaw": [r"PW\(700\)", 'xc="PBE"', r"FermiDirac\(0\.05\)", "FrechetCellFilter"],
    }.items(),
)  # fmt: skip
def test_settings_are_those_of_a_relaxation_by_pbe(tmp_path, code, lines):
    write_other_inputs(rutile(), tmp_path, [code])
    text = text_of(tmp_path / code)
    assert not [line for line in lines if not re.search(line, text)]


def test_a_left_handed_cell_is_inverted(tmp_path):
    right = triclinic()
    assert np.linalg.det(right.lattice.matrix) > 0
    left = Structure(-right.lattice.matrix, right.species, right.frac_coords)
    write_other_inputs(left, tmp_path, ["abinit"])
    cell = read_back(tmp_path / "abinit", "abinit").cell
    np.testing.assert_allclose(cell.array, right.lattice.matrix, atol=1e-9)


def test_a_cp2k_mesh_of_macdonald_has_gamma_in_it(tmp_path):
    write_other_inputs(rutile(), tmp_path, ["cp2k"])
    [line] = re.findall(r"MACDONALD (.*)\n", text_of(tmp_path / "cp2k"))
    sizes, shifts = np.array(line.split(), dtype=float).reshape(2, 3)
    for size, shift in zip(sizes, shifts, strict=True):  # k = (2i - n - 1) / 2n + shift
        points = (2 * np.arange(1, size + 1) - size - 1) / (2 * size) + shift
        assert np.abs(points - np.round(points)).min() < 1e-9


def test_the_script_of_gpaw_is_python(tmp_path):
    write_other_inputs(rutile(), tmp_path, ["gpaw"])
    compile((tmp_path / "gpaw" / "relax.py").read_text(), "relax.py", "exec")


def test_a_shortlist_has_the_codes_that_were_named(tmp_path):
    radon = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])
    crystals = {"best": rutile(), "radon": radon}
    best, failed = write_shortlist_inputs(crystals, tmp_path, codes=parse_codes("espresso, gpaw"))
    assert {path.name for path in best.folder.iterdir()} == {"espresso", "gpaw"}
    assert "Rn" in failed.error
    assert {path.name for path in tmp_path.iterdir()} == {"best", "README.txt"}
    readme = (tmp_path / "README.txt").read_text()
    assert "pw.x -in pw.in" in readme
    assert "never on this program's hull" in readme
    assert "POTCAR" not in readme


@pytest.mark.parametrize("text", ["vasp,siesta", "", ","])
def test_an_unknown_code_is_refused(text):
    with pytest.raises(ValueError, match=r"unknown DFT code .*expected some of vasp, espresso"):
        parse_codes(text)
