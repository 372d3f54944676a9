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
    ("generate --until 2", "--until is now called --num-candidates"),
    ("generate --reference nowhere.zip", "nowhere.zip does not exist"),
    ("generate --dft-inputs --dft-sets vasp", "unknown"),
    ("generate --dft-inputs --dft-codes siesta", "unknown DFT code"),
    ("generate --condition band_gap=wide", "expected a number in eV"),
    ("generate --condition hardness=3", "unknown property 'hardness'"),
    ("generate --condition chemical_system>Li-O", "has no order"),
    ("generate --checkpoint nowhere", "no model 'nowhere'"),
    ("generate --num-atoms 900", "this model makes 1..52 atoms"),
    ("predict --formula Mg60O60", "this model makes 1..52 atoms"),
    ("finetune nowhere.csv --property mine", "nowhere.csv does not exist"),
    ("finetune embedded --property mine --checkpoint nowhere", "no model 'nowhere'"),
    ("probe fit nowhere.csv --property mine", "nowhere.csv does not exist"),
    ("benchmark nowhere --protocol crystalite", "nowhere does not exist"),
    ("complete --seed-structure nowhere.cif", "nowhere.cif does not exist"),
    ("score nowhere", "nowhere does not exist"),
    ("score embedded", "embedded does not exist"),
    ("benchmark new-frameworks --protocol crystalite", "new-frameworks does not exist"),
]
WITHOUT_A_FOLDER = [
    ("train nowhere.yaml", "expected a file, or one of"),
    ("train mp_20.yaml data.pth=x", "data.pth"),
    ("campaign run campaign.yaml num_samples=few", "num_samples"),
    ("data prepare nowhere table.parquet", "nowhere does not exist"),
    ("verify nowhere", "holds no finished run"),
    ("library export nowhere library.db", "nowhere does not exist"),
]


def refuse(words, said, folder):
    """Run a command that is refused before anything slow is loaded, and writes nothing."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert done.stdout.split() == ["loaded:"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("command", "said"), REFUSED)
def test_requests_are_refused_before_anything_is_loaded(command, said, tmp_path):
    refuse([*command.split(), "--out", "out"], said, tmp_path)


@pytest.mark.parametrize(("command", "said"), WITHOUT_A_FOLDER)
def test_sources_are_refused_before_anything_is_loaded(command, said, tmp_path):
    refuse(command.split(), said, tmp_path)
