"""Several processes verify one run: each crystal once, and a kill loses nothing.

The engine is `emt_engine`: real energies of alloys in a fraction of a second, from one file.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from mattergen_lite import judge, load, verify
from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.engine import JobLimits
from mattergen_lite.dft.engines import find_engine
from mattergen_lite.dft.phases import phase_by_id
from mattergen_lite.dft.result import DftResult
from mattergen_lite.dft.settings import DftSettings
from mattergen_lite.dft.verification import Verifier

ENGINE = "emt_engine:Emt"


def alloy(first: str, second: str) -> Structure:
    """A crystal of the type of sodium thallide, which none of these alloys has."""
    return Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(6.4), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture
def run(tmp_path):
    pairs = [("Cu", "Au"), ("Ag", "Au"), ("Ag", "Pd"), ("Cu", "Pt"), ("Al", "Cu")]
    crystals = {first + second: alloy(first, second) for first, second in pairs}
    return judge(crystals, relax=False, num_workers=0).save(tmp_path / "run", num_workers=0)


def start(run, tmp_path: Path, workers: int = 0, seconds: float = 0.3) -> subprocess.Popen:
    names = ",".join(sorted(one.raw.name for one in run))
    command = [sys.executable, "-m", "mattergen_lite.cli", "verify", str(run.folder)]
    options = ["--names", names, "--engine", ENGINE, "--num-workers", str(workers)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    emt = {"EMT_SECONDS": str(seconds), "EMT_LOG": str(tmp_path / "log")}
    return subprocess.Popen(
        [*command, *options, "--cache", str(tmp_path / "cache")],
        env=os.environ | emt | {"PYTHONPATH": paths},
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def calculations(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_processes_share_a_run_and_a_kill_loses_nothing(run, tmp_path):
    killed, other = start(run, tmp_path), start(run, tmp_path)
    while not list((tmp_path / "cache").glob("*.json")):
        time.sleep(0.05)
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    assert other.wait(300) == 0
    assert start(run, tmp_path).wait(300) == 0
    done = {one.raw.name: one.first_principles for one in load(run.folder)}
    assert {name for name, one in done.items() if one.dft_error is None} == {*done}
    jobs = calculations(tmp_path)
    assert len({*jobs}) <= len(jobs) <= len({*jobs}) + 1  # but for what was killed on its way
    assert len([*(tmp_path / "cache").glob("*.json")]) == len({*jobs})
    assert {one.dft_method for one in done.values()} == {"EMT"}


def engines(tmp_path: Path) -> list[str]:
    """Processes that calculate for this test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"\0emt_engine\0" in command and str(tmp_path / "cache").encode() in command:
                found.append(process.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_end_of_the_command_ends_its_engines_at_once(run, tmp_path, workers):
    """Each calculation would take two minutes."""
    command = start(run, tmp_path, workers, seconds=120)
    while len(engines(tmp_path)) < max(workers, 1):
        time.sleep(0.1)
        assert command.poll() is None
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143
    end = time.monotonic() + 2
    while engines(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert engines(tmp_path) == []


def test_an_engine_is_one_file(tmp_path):
    """Its energies come out as its own, and a crystal relaxes where it is asked for."""
    crystal = phase_by_id("mp-522").structure  # CuAu
    options = {"engine": ENGINE, "cache": tmp_path, "names": "000000", "num_workers": 0}
    judged = judge([crystal.scale_lattice(crystal.volume * 1.1)], relax=False, num_workers=0)
    stretched, relaxed = (
        verify(judged, relax=is_relaxed, **options)[0] for is_relaxed in (False, True)
    )
    gain = relaxed.first_principles.dft_relaxation_energy
    assert gain < -0.01
    assert relaxed.dft_structure.volume < stretched.final_structure.volume
    energies = [one.first_principles.dft_energy_per_atom for one in (stretched, relaxed)]
    assert energies[1] - energies[0] == pytest.approx(gain, abs=1e-6)
    assert stretched.dft_structure is None


def emt_of_copper_gold(tmp_path, seconds: float) -> DftResult:
    """One calculation, in a process of its own."""
    verifier = Verifier(engine=find_engine(ENGINE), results=ResultFolder(tmp_path))
    (start,) = verifier.work(phase_by_id("mp-522").structure).starts
    return verifier.engine.calculate(start, tmp_path / "result.json", JobLimits(seconds=seconds))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_an_engine_starts_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("EMT_CHILD", "sleep 86399")
    result = emt_of_copper_gold(tmp_path, seconds=10.0)
    assert result.error == "no result within 10 s"
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if b"86399" in command]


def test_the_time_of_what_an_engine_starts_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    quick = emt_of_copper_gold(tmp_path / "quick", seconds=60.0)
    busy = "import time\nwhile time.process_time() < 3: pass"
    monkeypatch.setenv("EMT_CHILD", shlex.join([sys.executable, "-c", busy]))
    slow = emt_of_copper_gold(tmp_path / "slow", seconds=60.0)
    assert slow.energy == quick.energy
    assert slow.cpu_seconds > quick.cpu_seconds + 2


def test_an_engine_states_its_settings_and_error(run, tmp_path, monkeypatch):
    engine = type(find_engine(ENGINE))
    monkeypatch.setattr(engine, "settings", DftSettings(cutoff=700.0))
    monkeypatch.setattr(engine, "error", 0.5)
    names = run[0].raw.name
    (verified,) = verify(run, names=names, engine=ENGINE, cache=tmp_path / "c", num_workers=0)[:1]
    assert verified.first_principles.dft_e_above_hull_std >= 0.5


@pytest.mark.parametrize("name", ["vasp", "no_module:Engine", "json:JSONDecoder", "emt_engine:No"])
def test_what_is_no_engine_is_refused(name):
    with pytest.raises(ValueError, match=f"engine {name!r}"):
        find_engine(name)


def test_an_engine_of_before_is_told_what_its_versions_are_called(monkeypatch):
    engine = type(find_engine(ENGINE))
    monkeypatch.delattr(engine, "versions")
    monkeypatch.setattr(engine, "scale", "EMT 1", raising=False)
    with pytest.raises(ValueError, match="scale is now called versions"):
        find_engine(ENGINE)
