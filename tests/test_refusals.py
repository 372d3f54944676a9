"""Requests that make no sense are refused before torch, pymatgen or any model is loaded."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pymatgen", "lightning", "scipy", "matplotlib", "chgnet", "sevenn", "ase")
PROGRAM = f"""
import sys
from mattergen_lite.cli import main
sys.argv = ["mattergen-lite", *sys.argv[1:]]
try:
    main()
finally:
    print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""

REFUSED = [
    ("generate --elements Xx,O", "unknown element 'Xx'"),
    ("generate --chemical-system Li-Qq", "unknown element"),
    ("generate --formula LiFe(PO4)", "is not of the form LiFePO4"),
    ("predict --formula lifepo4", "is not of the form LiFePO4"),
    ("predict --num-samples 3", "formula: expected the composition"),
    ("generate --formula NaCl --exclude Cl", "ruled out by"),
    ("generate --chemical-system Na-Cl --elements Na,Br", "ruled out by"),
    ("generate --elements Li --exclude Li", "no element is left"),
    ("generate --num-atoms 4-12", "is no whole number such as 8"),
    ("generate --formula-units 2", "without a formula"),
    ("generate --space-group 231", "a number from 1 to 230"),
    ("generate --condition band_gap~3", "not of the form property=value"),
    ("generate --condition a=1 --condition a=2", "given twice"),
    ("generate --guidance 2", "without a condition"),
    ("generate --require on_target", "expected a condition"),
    ("generate --require prety", "unknown check"),
    ("generate --no-relax --bulk-modulus", "need relaxed crystals"),
    ("generate --num-candidates 2 --until 2", "ask for the same"),
    ("generate --reference nowhere.zip", "nowhere.zip does not exist"),
    ("generate --dft-inputs --dft-sets vasp", "unknown"),
    ("generate --dft-inputs --dft-codes siesta", "unknown DFT code"),
    ("complete --seed-structure nowhere.cif", "nowhere.cif does not exist"),
    ("score nowhere", "nowhere does not exist"),
]


@pytest.mark.parametrize(("command", "said"), REFUSED)
def test_requests_are_refused_before_anything_is_loaded(command, said, tmp_path):
    words = [*command.split(), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert done.stdout.split() == ["loaded:"]
    assert not (tmp_path / "out").exists()
