"""What goes wrong with real processes and real disks; afterwards the dataset is as if nothing had.

Every test ends with the table of an undisturbed run, which is worked out here without Dask.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dask as dask_settings
import psutil
import pyarrow.dataset as ds
import pytest
from crystals import nacl, perovskite, rutile
from models import tiny_model

from mattergen_lite.campaign.parts import CANDIDATES, part_paths
from mattergen_lite.campaign.plan import CampaignPlan
from mattergen_lite.campaign.run import run
from mattergen_lite.campaign.status import UNFINISHED
from mattergen_lite.campaign.work import work
from mattergen_lite.campaign.workers import connection, this_machine
from mattergen_lite.config import CampaignConfig
from mattergen_lite.io.write import write_extxyz

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DEADLINE = 600.0  # s, on a busy machine
UNITS = 6
# Reading is limited too, more tightly: the fault waits until a crystal is judged.
FAULT = """
import faulthandler, time
from mattergen_lite import processes as pool
honest = pool.attempt
def attempt(function, item):
    name = getattr(item, "name", "") if type(item).__name__ == "StructureRecord" else ""
    if name == "crashes":
        faulthandler._sigsegv()
    while name == "hangs":
        time.sleep(1)
    return honest(function, item)
pool.attempt = attempt
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save(folder)
    return folder


@pytest.fixture(scope="module")
def campaign(checkpoint):
    """A campaign's configuration, in the folder that it is given."""

    def configured(run_dir: Path, **settings: object) -> CampaignConfig:
        tree = {
            "num_samples": 3 * UNITS,
            "unit_size": 3,
            "generate": {"checkpoint": str(checkpoint), "steps": 3, "num_atoms": "2..4"},
            "judge": {"relax": False},
            "workers": {"count": 1, "device": "cpu", "memory": "4GiB"},
        }
        return CampaignConfig.parse({**tree, "run_dir": run_dir, **settings})

    return configured


@pytest.fixture(scope="module")
def undisturbed(campaign, tmp_path_factory):
    """The table of a run in this process, in which nothing goes wrong."""
    config = campaign(tmp_path_factory.mktemp("undisturbed"))
    for unit in CampaignPlan.of(config).units():
        work(config, unit, "cpu")
    return table(config.run_dir)


def table(run_dir):
    found = ds.dataset(run_dir / CANDIDATES).to_table().sort_by([("unit", "ascending")])
    return found.sort_by([("name", "ascending")]).replace_schema_metadata(None)


def wait_for(seen, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def being_worked_on(run_dir):
    """A unit is half judged: its result cache has an answer and its part is not there."""
    return any(path.stat().st_size for path in (run_dir / UNFINISHED).glob("*.jsonl"))


def worker_processes():
    """Processes of Dask's workers that descend from this one."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "multiprocessing.spawn" in " ".join(child.cmdline())
        and "spawn_main" in " ".join(child.cmdline())
    ]


class Running(threading.Thread):
    """A campaign that runs while the test does something to it."""

    def __init__(self, config, connect):
        super().__init__(daemon=True)
        self.arguments, self.outcome = (CampaignPlan.of(config), connect), None
        self.start()

    def run(self):
        try:
            self.outcome = run(*self.arguments)
        except Exception as error:
            self.outcome = error

    def finished(self):
        self.join(DEADLINE)
        assert not isinstance(self.outcome, Exception), self.outcome
        return self.outcome


@contextmanager
def own_keys(security, folder):
    """The keys of a cluster as Dask's settings here and in new processes, as users keep theirs."""
    names = {"ca-file": security.tls_ca_file}
    names |= {"client.key": security.tls_client_key, "client.cert": security.tls_client_cert}
    settings = {}
    for name, text in names.items():
        path = folder / name
        path.write_text(text)
        settings[f"distributed.comm.tls.{name}"] = str(path)
        variable = name.replace(".", "__").replace("-", "_").upper()
        os.environ[f"DASK_DISTRIBUTED__COMM__TLS__{variable}"] = str(path)
    with dask_settings.config.set(settings):
        yield
    for name in list(os.environ):
        if name.startswith("DASK_DISTRIBUTED__COMM__TLS"):
            os.environ.pop(name)


@pytest.fixture(scope="module")
def cluster(campaign, tmp_path_factory):
    """A worker of this machine, which several tests share; `FAULT` waits in all its processes."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "sitecustomize.py").write_text(FAULT)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    sys.path.insert(0, str(folder))  # which the workers take over, and their processes from them
    with this_machine(campaign(folder).workers) as workers, own_keys(workers.security, folder):
        yield workers.scheduler_address  # a worker that is killed and replaced takes it over too
    sys.path.remove(str(folder))
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def test_worker_killed_in_the_middle_of_a_unit(campaign, undisturbed, cluster, tmp_path):
    config = campaign(tmp_path)
    running = Running(config, connection(config.workers, config.run_dir, cluster))
    wait_for(lambda: being_worked_on(tmp_path))
    (worker,) = worker_processes()
    worker.kill()
    assert running.finished().complete
    assert table(tmp_path).equals(undisturbed)


def test_every_unit_delivered_twice_at_once(campaign, undisturbed, cluster, tmp_path):
    config = campaign(tmp_path)
    running = Running(config, connection(config.workers, config.run_dir, cluster))
    for unit in CampaignPlan.of(config).units():
        work(config, unit, "cpu")
    assert running.finished().complete
    assert len(part_paths(tmp_path)) == UNITS
    assert table(tmp_path).equals(undisturbed)


def test_client_killed_and_started_again(campaign, undisturbed, cluster, tmp_path):
    config = campaign(tmp_path / "run")
    config.save(tmp_path / "campaign.yaml")
    client = subprocess.Popen(
        [sys.executable, "-m", "mattergen_lite.cli", "campaign", "run", tmp_path / "campaign.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: part_paths(config.run_dir) or client.poll() is not None)
    children = psutil.Process(client.pid).children(recursive=True)
    client.kill()
    client.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]
    before = {path: path.stat().st_mtime_ns for path in part_paths(config.run_dir)}
    assert before
    assert run(
        CampaignPlan.of(config), connection(config.workers, config.run_dir, cluster)
    ).complete
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list((config.run_dir / CANDIDATES).glob(".*"))
    assert table(config.run_dir).equals(undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_interrupted_and_started_again(
    campaign, undisturbed, cluster, tmp_path, number, code
):
    """A job script must not take half a campaign for a whole one."""
    config = campaign(tmp_path / "run")
    config.save(tmp_path / "campaign.yaml")
    client = subprocess.Popen(
        [sys.executable, "-m", "mattergen_lite.cli", "campaign", "run", tmp_path / "campaign.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: part_paths(config.run_dir) or client.poll() is not None)
    children = psutil.Process(client.pid).children(recursive=True)
    client.send_signal(number)
    _, errors = client.communicate(timeout=120)
    assert client.returncode == code
    assert "interrupted: the same command goes on" in errors
    assert "Traceback" not in errors
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert len(part_paths(config.run_dir)) < UNITS
    assert run(
        CampaignPlan.of(config), connection(config.workers, config.run_dir, cluster)
    ).complete
    assert table(config.run_dir).equals(undisturbed)


def test_processes_without_a_scheduler_killed_and_joined(campaign, undisturbed, tmp_path):
    """Two processes share the units by locks; one is killed amid a unit, another comes later."""
    config = campaign(tmp_path / "run")
    config.save(tmp_path / "campaign.yaml")

    def start():
        command = ("-m", "mattergen_lite.cli", "campaign", "work", tmp_path / "campaign.yaml")
        return subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    killed = start()
    wait_for(lambda: being_worked_on(config.run_dir) or killed.poll() is not None)
    other = start()
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]
    late = start()
    assert [process.wait(DEADLINE) for process in (other, late)] == [0, 0]
    assert len(part_paths(config.run_dir)) == UNITS
    assert table(config.run_dir).equals(undisturbed)
    assert not list((config.run_dir / UNFINISHED).glob("*.tries"))


@contextmanager
def dask(*arguments):
    """A command of Dask in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


def test_scheduler_killed_and_started_again(campaign, undisturbed, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    head = ("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    config = campaign(tmp_path / "run")
    running = None
    with dask(*head) as scheduler, dask("worker", address, "--nthreads", 1, "--no-dashboard"):
        running = Running(config, connection(config.workers, config.run_dir, address))
        wait_for(lambda: part_paths(config.run_dir))
        scheduler.kill()
        scheduler.wait()
        stored = len(part_paths(config.run_dir))
    assert stored < UNITS
    with dask(*head), dask("worker", address, "--nthreads", 1, "--no-dashboard"):
        assert running.finished().complete
    assert table(config.run_dir).equals(undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for two or three units."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems can be mounted by the superuser only")
    yield folder
    # A worker may still be closing its last file: the file system goes when the last one is closed.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_disk_full_when_a_unit_is_stored(campaign, undisturbed, cluster, small_disk):
    config = campaign(small_disk)
    connect = connection(config.workers, config.run_dir, cluster)
    with pytest.raises(ValueError, match=r"cannot write .* No space left on device"):
        run(CampaignPlan.of(config), connect)
    stored = len(part_paths(small_disk))
    assert 0 < stored < UNITS
    assert ds.dataset(small_disk / CANDIDATES).to_table().num_rows == 3 * stored  # all readable
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert run(CampaignPlan.of(config), connect).complete
    assert table(small_disk).equals(undisturbed)


def test_crystals_that_crash_or_hang_cost_themselves_only(campaign, cluster, tmp_path, monkeypatch):
    # The salt comes first by name, so that it is the original of its copies with and without them.
    names = ["a_salt", "crashes", "rutile", "hangs", "perovskite"]
    crystals = [nacl(), nacl(), rutile(), nacl(), perovskite()]
    write_extxyz(crystals, tmp_path / "all.extxyz", [{"name": name} for name in names])
    settings = {
        "source": tmp_path / "all.extxyz",
        "unit_size": len(names),
        "judge": {"relax": False, "time_limit": 20},  # imports take long on a busy machine
    }
    config = campaign(tmp_path / "run", **settings)
    assert run(
        CampaignPlan.of(config), connection(config.workers, config.run_dir, cluster)
    ).quarantined == {
        f"its process died with exit code -{signal.SIGSEGV:d}": 1,
        "no result within 20 s": 1,
    }
    healthy = campaign(tmp_path / "healthy", **settings)
    honest = [entry for entry in sys.path if not Path(entry, "sitecustomize.py").exists()]
    monkeypatch.setattr(sys, "path", honest)  # which processes that judge take over
    for unit in CampaignPlan.of(healthy).units():
        work(healthy, unit, "cpu")
    found, expected = (
        {row["name"]: row for row in table(one.run_dir).to_pylist()} for one in (config, healthy)
    )
    assert {name for name in names if found[name] != expected[name]} == {"crashes", "hangs"}
