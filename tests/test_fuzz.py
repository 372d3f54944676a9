"""Any bytes are structures or errors in one line: never a traceback, never a hang, never a giant.

pytest tests/test_fuzz.py --fuzz 20000   # as many examples a reader; a few dozen otherwise
"""

import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from crystals import nacl, quartz, rutile, triclinic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from mattergen_lite.config import RunConfig
from mattergen_lite.io.formats.structures import MAX_ATOMS
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.write import write_extxyz

EXAMPLES = 60
TIME_LIMIT = 10_000  # ms an example
MADE = (nacl(), rutile(), quartz(), triclinic())
# What breaks readers, in the place of a word.
WORDS = (
    *("nan", "inf", "-inf", "1e308", "-1", "0", "1", "?", ".", "''", '""', "0.5(3)", "1/2", "0x10"),
    *("9" * 5000, "D", "Xx", "loop_", "data_", "_cell_length_a", "x,y,z", "F F F", "\0", "é", "\r"),
    *("Properties=species:S:1", "Direct", "{}", "[]", "null", "true", "1e-320", "+0", "--1"),
)


@pytest.fixture
def fuzzing(request):
    """How many examples; more by a flag."""
    return settings(
        max_examples=request.config.getoption("--fuzz") or EXAMPLES,
        deadline=TIME_LIMIT,
        suppress_health_check=list(HealthCheck),
    )


def written(name: str, index: int) -> str:
    """A good file of a kind."""
    structure = MADE[index % len(MADE)]
    if name.endswith(".cif"):
        return str(CifWriter(structure, symprec=0.01 if index >= len(MADE) else None))
    if name == "POSCAR":
        return Poscar(structure).get_str()
    if name.endswith(".json"):
        return json.dumps(structure.as_dict())
    if name.endswith(".csv"):
        return f'id,gap,cif\n007,1.5,"{CifWriter(structure)}"\n'
    with TemporaryDirectory() as folder:
        write_extxyz([structure] * 2, Path(folder) / "a.xyz", [{"name": "a b", "gap": 1.5}, {}])
        return (Path(folder) / "a.xyz").read_text()


@st.composite
def spoilt(draw: st.DrawFn, name: str) -> bytes:
    """A good file with some words replaced, removed or repeated, or cut, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=500))
    parts = re.split(r"(\s+|[,:{}\[\]\"])", written(name, draw(st.integers(0, 2 * len(MADE) - 1))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(parts) - 1))
        parts[place] = draw(
            st.sampled_from(WORDS) | st.just("") | st.just(parts[place] * 2) | st.text(max_size=8)
        )
    data = "".join(parts).encode(errors="replace")
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def check(path: Path) -> None:
    """Read a file as everything here does, and look at what came of it."""
    try:
        records = list(read_structures(path))
    except ValueError as error:
        assert is_line(str(error))  # noqa: PT017  # a file may also be read
        return
    for record in records:
        assert is_line(record.name)
        if record.structure is None:
            assert is_line(record.error)
            continue
        assert record.error is None
        assert 0 < len(record.structure) <= MAX_ATOMS
        assert np.isfinite(record.structure.lattice.matrix).all()
        coords = record.structure.frac_coords
        assert ((coords >= 0) & (coords < 1)).all()
        assert record.structure.is_ordered
        assert np.isfinite(list(record.properties.values())).all()


def is_line(text: str) -> bool:
    return 0 < len(text) < 5000 and "\n" not in text


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.xyz", "a.json", "a.csv"])
def test_any_file_is_structures_or_one_line(tmp_path, fuzzing, name):
    @fuzzing
    @given(spoilt(name))
    def read(data: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        check(path)

    read()


@pytest.mark.parametrize("name", ["a.zip", "a.parquet"])
def test_any_container_is_structures_or_one_line(tmp_path, fuzzing, name):
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", written("a.cif", 0))
        archive.writestr("b.xyz", written("b.xyz", 1))

    @fuzzing
    @given(st.binary(max_size=300), st.integers(0, len(whole.getvalue()) - 1))
    def read(data: bytes, place: int) -> None:
        good = whole.getvalue()
        path = tmp_path / name
        path.write_bytes(good[:place] + data + good[place + len(data) :])
        check(path)

    read()


def test_any_configuration_is_one_or_one_line(tmp_path, fuzzing):
    text = RunConfig(run_dir=Path("x")).model_dump_json()

    @fuzzing
    @given(st.data())
    def read(data: st.DataObject) -> None:
        parts = re.split(r"([,:{}\[\]\"])", text)
        for _ in range(data.draw(st.integers(1, 3))):
            parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(
                st.sampled_from(WORDS) | st.text(max_size=8)
            )
        (tmp_path / "a.yaml").write_bytes("".join(parts).encode(errors="replace"))
        try:
            RunConfig.load([tmp_path / "a.yaml"])
        except ValueError as error:
            assert is_line(str(error))  # noqa: PT017  # it may also be one

    read()
