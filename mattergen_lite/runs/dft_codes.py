"""Writes inputs of Quantum ESPRESSO, ABINIT, CP2K and GPAW: PBE relaxations of atoms and cell.

The mesh of k points and the initial moments are those of pymatgen's `MPRelaxSet`; there is no U.
"""

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.files.folders import write_text
from mattergen_lite.runs.recipes import names_among, template

if TYPE_CHECKING:
    from ase import Atoms

Mesh = Sequence[int]  # numbers of k points along the reciprocal axes, around Γ

VASP = "vasp"
SMEARING = 0.05  # eV, as `MPRelaxSet` has it
MAX_FORCE = 0.02  # eV/Å
CUTOFF_RYDBERG = 80  # of norm-conserving pseudopotentials (PseudoDojo)
GPAW_CUTOFF = 700  # eV; the stress of a basis needs more than the energy


def _espresso(atoms: "Atoms", mesh: Mesh) -> dict[str, str]:
    """`pw.in` of Quantum ESPRESSO; pseudopotentials are called Na.UPF."""
    from ase.io.espresso import write_espresso_in
    from ase.units import Bohr, Rydberg

    settings = {
        "calculation": "vc-relax",
        "pseudo_dir": "..",
        "outdir": "./out",
        "ecutwfc": CUTOFF_RYDBERG,
        "ecutrho": 4 * CUTOFF_RYDBERG,
        "occupations": "smearing",
        "smearing": "gaussian",
        "degauss": round(SMEARING / Rydberg, 6),
        "conv_thr": 1e-8,
        "forc_conv_thr": round(MAX_FORCE / Rydberg * Bohr, 6),
        "nspin": 2,
    }
    pseudopotentials = {symbol: f"{symbol}.UPF" for symbol in atoms.symbols.species()}
    # Moments in µB become the shares of -1 to 1 that pw.x expects.
    scaled = {"rescale_magmom_fac": 10.0}
    text = StringIO()
    write_espresso_in(
        text,
        atoms,
        settings,
        pseudopotentials,
        kpts=tuple(mesh),
        crystal_coordinates=True,
        **scaled,
    )
    return {"pw.in": text.getvalue()}


def _abinit(atoms: "Atoms", mesh: Mesh) -> dict[str, str]:
    """`crystal.abi` of ABINIT; pseudopotentials are called Na.psp8."""
    from ase.data import chemical_symbols
    from ase.io.abinit import write_abinit_in
    from ase.units import Bohr, Hartree, Rydberg

    settings = {
        "xc": "PBE",
        "ecut": CUTOFF_RYDBERG * Rydberg,  # eV, as ASE wants it
        "ecutsm": "0.5 Ha",
        "dilatmx": 1.1,
        "occopt": 7,
        "tsmear": SMEARING,
        "ngkpt": list(mesh),
        "shiftk": [0, 0, 0],
        "ionmov": 2,
        "optcell": 2,
        "ntime": 100,
        "tolmxf": f"{MAX_FORCE / Hartree * Bohr:.2e}",
        "tolvrs": "1e-8",  # symmetry may leave no forces to converge
        "nstep": 100,
    }
    names = [f"{chemical_symbols[number]}.psp8" for number in sorted(set(atoms.numbers))]
    text = StringIO()
    write_abinit_in(text, atoms, settings, pseudos=names)
    return {"crystal.abi": 'pp_dirpath ".."\n' + text.getvalue()}


def _cp2k(atoms: "Atoms", mesh: Mesh) -> dict[str, str]:
    """`crystal.inp` of CP2K, whose basis sets and potentials come with it; ASE writes none."""
    from ase.units import Bohr, Hartree, kB

    moments = dict(zip(atoms.symbols, atoms.get_initial_magnetic_moments(), strict=True))
    kind = template("cp2k_kind.inp")
    shifts = [(number - 1) / (2 * number) for number in mesh]  # of MacDonald's scheme around Γ
    text = template("cp2k.inp").format(
        max_force=MAX_FORCE / Hartree * Bohr,
        temperature=SMEARING / kB,
        mesh=" ".join(map(str, mesh)),
        shifts=" ".join(f"{shift:.10f}" for shift in shifts),
        cell="\n".join(
            f"      {axis} {_numbers(vector)}"
            for axis, vector in zip("ABC", atoms.cell, strict=True)
        ),
        atoms="\n".join(
            f"      {symbol} {_numbers(position)}"
            for symbol, position in zip(atoms.symbols, atoms.positions, strict=True)
        ),
        kinds="".join(kind.format(symbol=s, moment=m) for s, m in moments.items()).rstrip("\n"),
    )
    return {"crystal.inp": text}


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{number:.12f}" for number in vector)


def _gpaw(atoms: "Atoms", mesh: Mesh) -> dict[str, str]:
    """`relax.py` of GPAW, and the crystal that it reads."""
    from ase.io import write

    text = StringIO()
    write(text, atoms, format="extxyz")
    script = template("gpaw_relax.txt").format(
        cutoff=GPAW_CUTOFF, mesh=tuple(mesh), smearing=SMEARING, max_force=MAX_FORCE
    )
    return {"relax.py": script, "crystal.extxyz": text.getvalue()}


_WRITERS: Mapping[str, Callable[["Atoms", Mesh], dict[str, str]]] = {
    "espresso": _espresso,
    "abinit": _abinit,
    "cp2k": _cp2k,
    "gpaw": _gpaw,
}
RUN = {  # by code, for people
    "espresso": "pw.x -in pw.in, with norm-conserving pseudopotentials of PBE (PseudoDojo; SSSP "
    "needs ecutrho of 8 to 12 times ecutwfc) in the folder of the crystal, called Na.UPF. Starting "
    "magnetizations are a tenth of the moments.",
    "abinit": "abinit crystal.abi, with pseudopotentials of PBE (PseudoDojo) in the folder of the "
    "crystal, called Na.psp8.",
    "cp2k": "cp2k.psmp -i crystal.inp. Basis sets and potentials come with CP2K, not of every "
    "lanthanide.",
    "gpaw": "gpaw -P 16 python relax.py, with GPAW's PAW data sets.",
}
CODES = (VASP, *_WRITERS)


def parse_codes(text: str) -> tuple[str, ...]:
    """Names of codes from text such as "vasp,espresso".

    Raises:
        ValueError: For an unknown one, or if there is none.
    """
    if names := names_among(CODES, "DFT code", text):
        return names
    raise ValueError(f"unknown DFT code {text!r}: expected some of {', '.join(CODES)}")


def write_code_inputs(atoms: "Atoms", mesh: Mesh, folder: Path, code: str) -> None:
    """Write the files of one calculation of a crystal with initial moments in µB; mesh around Γ."""
    for name, text in _WRITERS[code](atoms, mesh).items():
        write_text(text, folder / name)
