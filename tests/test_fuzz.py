"""Any bytes are structures or errors in one line: never a traceback, never a hang, never a giant.

pytest tests/test_fuzz.py --fuzz 20000   # as many examples a reader; a few dozen otherwise

An example may take 10 s of computing and 2 GiB, and a command may end with exit code 0 or 2.
"""

import json
import re
import signal
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from crystals import nacl, quartz, rutile, triclinic
from hostile_commands import BASES, NUMBERS, TEXTS, options, with_options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from mattergen_lite import cli
from mattergen_lite.config import RunConfig
from mattergen_lite.files.folders import claimed, claimed_file
from mattergen_lite.io.formats.structures import MAX_ATOMS
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.processes import room_for

if not hasattr(signal, "setitimer"):
    pytest.skip("needs POSIX", allow_module_level=True)

EXAMPLES = 60
TIME_LIMIT = 10.0  # s of computing an example may take
MEMORY_LIMIT = 2 * 2**30  # bytes beside those that the tests hold
CODES = {0, 2}  # 130 and 143 are for interrupts
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
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """No `except Exception` of a reader stops it."""


def hang(*_: object) -> None:
    raise Hang


@contextmanager
def in_time() -> Iterator[None]:
    """Stop what takes more than its seconds of computing, however busy the machine is."""
    before = signal.signal(signal.SIGPROF, hang)
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def in_memory() -> Iterator[None]:
    """Let nothing here allocate more, where the system can limit it (macOS does not)."""
    with room_for(MEMORY_LIMIT):
        yield


def spin() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0.01)  # sooner than the others
    while True:
        pass


def test_what_is_limited_here_is_limited():
    """Else the tests below would pass whatever readers take."""
    with pytest.raises(Hang), in_time():
        spin()
    if sys.platform == "linux":
        with pytest.raises(MemoryError):
            bytearray(2 * MEMORY_LIMIT)


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
        with in_time():
            records = list(read_structures(path))
    except ValueError as error:
        assert is_line(str(error))  # noqa: PT017  # a file may also be read
        return
    for record in records:
        assert is_line(record.name)
        if record.structure is None:
            assert is_line(record.error)
            assert "more memory" not in record.error  # which is said of what was stopped
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
            with in_time():
                RunConfig.load([tmp_path / "a.yaml"])
        except ValueError as error:
            assert is_line(str(error))  # noqa: PT017  # it may also be one

    read()


# Any word for any option; no work is done, because every place of results is held by another run

HELD = {"o": claimed, "o.parquet": claimed_file, "o.jsonl": claimed_file, "good.cif": claimed}


@st.composite
def command_line(draw: st.DrawFn) -> list[str]:
    """A command that would work, with one to three options that are given any words."""
    verb = draw(st.sampled_from(sorted(BASES)))
    asked = draw(st.lists(st.sampled_from(list(options(verb))), min_size=1, max_size=3))
    words = st.sampled_from((*TEXTS, *NUMBERS)) | st.text(max_size=30) | st.integers().map(str)
    return with_options(verb, *(f"{name}={draw(words)}" for name, _ in asked if name != "--out"))


def test_any_command_line_ends_with_a_known_exit_code(tmp_path, fuzzing, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import_module("mattergen_lite.training.finetuning")  # which takes its time

    @fuzzing
    @given(command_line())
    def run(words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["mattergen-lite", *words])
        with pytest.raises(SystemExit) as ended, in_time():
            cli.main()
        assert ended.value.code in CODES
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert is_line(errors.removesuffix("\n"))
        assert "mistake of this program" not in errors

    with ExitStack() as held:
        for name, hold in HELD.items():
            held.enter_context(hold(tmp_path / name))
        run()
