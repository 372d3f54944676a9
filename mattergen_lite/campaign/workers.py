"""Starts workers on this machine or a batch system, or joins a running scheduler.

Dask does the rest: it hands out units, starts workers again that died and gives their units to
others. One GPU belongs to one worker.
"""

import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

import torch

from mattergen_lite.config import ClusterConfig, WorkersConfig, read_yaml
from mattergen_lite.processes import SAFE_PATH, available_cores

if TYPE_CHECKING:
    from distributed import Client, Security
    from distributed.deploy.cluster import Cluster

    Connect = Callable[[], AbstractContextManager[Client]]

CONNECT_TIMEOUT = 10.0  # s
LOOPBACK = "127.0.0.1"  # whoever reaches a scheduler may run anything
# Dask serves pages even without a dashboard: on loopback then, and none but that it is alive.
NO_DASHBOARD = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
NO_PAGES = {
    f"distributed.{role}.http.routes": ["distributed.http.health"]
    for role in ("scheduler", "worker")
}
# What submits jobs of a kind, and the class of dask-jobqueue.
_SUBMIT = {
    "slurm": ("sbatch", "SLURMCluster"),
    "pbs": ("qsub", "PBSCluster"),
    "sge": ("qsub", "SGECluster"),
    "lsf": ("bsub", "LSFCluster"),
    "oar": ("oarsub", "OARCluster"),
    "htcondor": ("condor_submit", "HTCondorCluster"),
    "local": (None, "LocalCluster"),  # processes of this machine: to try the options out
}
SUBMIT = {kind: command for kind, (command, _) in _SUBMIT.items()}


def require_dask() -> None:
    """Raise a one-line ValueError if Dask is not installed."""
    try:
        import distributed  # noqa: F401

        with _own_interrupts():
            import dask_jobqueue  # noqa: F401
    except ImportError:
        raise ValueError(
            "campaigns need Dask: expected `pip install '.[campaign]'` in the source folder"
        ) from None


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Keep what an interrupt does; importing dask_jobqueue makes it an end with exit code 0."""
    if current_thread() is not main_thread():  # where nothing can change it
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def connection(
    config: WorkersConfig,
    shared: Path,
    scheduler: str | None = None,
    cluster: Path | None = None,
) -> "Connect":
    """How to reach the workers: each call of the result connects anew.

    They are on this machine, unless there is a scheduler or the YAML of a batch system. Workers
    elsewhere see the shared folder, too, which has the keys they identify themselves with.

    Raises:
        ValueError: If both are given, the file is unusable, or Dask or the batch system is not
            installed.
    """
    require_dask()
    if scheduler is not None and cluster is not None:
        raise ValueError(f"scheduler {scheduler} and cluster {cluster}: expected one of them")
    if scheduler is not None:
        _check_address(scheduler)
        return partial(_connected, partial(nullcontext, scheduler))
    if cluster is not None:
        asked = ClusterConfig.parse(read_yaml(cluster))
        _require_batch_system(asked.kind)
        return partial(_connected, partial(batch_system, asked, shared))
    return partial(_connected, partial(this_machine, config))


def _check_address(address: str) -> None:
    """Refuse what is no address, and say what an unprotected one means."""
    protocol, sign, rest = address.partition("://")
    if not sign or protocol not in {"tcp", "tls", "ws", "wss"} or not rest:
        raise ValueError(
            f"scheduler {address!r}: expected an address such as tls://head:8786 or tcp://head:8786"
        )
    if protocol in {"tcp", "ws"} and not rest.startswith((LOOPBACK, "localhost", "[::1]")):
        print(
            f"warning: {address} is not protected: whoever reaches it may run anything as you",
            file=sys.stderr,
        )


def _require_batch_system(kind: str) -> None:
    """Raise a one-line ValueError if jobs cannot be submitted from here."""
    command = SUBMIT[kind]
    if command is not None and shutil.which(command) is None:
        raise ValueError(
            f"no {command} here, which submits jobs of kind {kind}: expected a machine that has it"
        )


@contextmanager
def _connected(start: Callable[[], AbstractContextManager]) -> "Iterator[Client]":
    """A client of a cluster that is started for it, or of the scheduler at an address."""
    from distributed import Client

    with start() as cluster, Client(cluster, timeout=CONNECT_TIMEOUT) as client:
        yield client


def this_machine(config: WorkersConfig) -> "Cluster":
    """Workers on this machine, each watched by a nanny that starts it again if it dies."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    num_gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    number = config.count or num_gpus or max(1, available_cores() // config.cores)
    security = _temporary_keys()
    protected = {"protocol": "tls://", "security": security}
    asked = [_nanny_options(config, index, num_gpus, number) for index in range(number)]
    workers = {i: {"cls": Nanny, "options": given | protected} for i, given in enumerate(asked)}
    options = NO_DASHBOARD | {"host": LOOPBACK, "port": 0} | protected
    with dask.config.set({**NO_PAGES, f"distributed.nanny.pre-spawn-environ.{SAFE_PATH}": "1"}):
        return SpecCluster(
            workers=workers,
            scheduler={"cls": Scheduler, "options": options},
            security=security,
            silence_logs=50,
            name="campaign",
        )


def _temporary_keys() -> "Security":
    """Keys for this campaign only; others on this machine reach its loopback addresses too."""
    from distributed import Security

    try:
        return Security.temporary()
    except ImportError:
        raise ValueError(
            "campaigns need cryptography: expected `pip install '.[campaign]'` in the source folder"
        ) from None


def _nanny_options(
    config: WorkersConfig, index: int, num_gpus: int, number: int
) -> dict[str, object]:
    """What a worker on this machine is started with."""
    environment = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    for library in ("OMP", "MKL", "OPENBLAS"):
        environment[f"{library}_NUM_THREADS"] = str(config.cores)
    if num_gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(index % num_gpus)
    memory = config.memory if config.memory != "auto" else 1 / number
    place = {"host": LOOPBACK, "nthreads": 1, "memory_limit": memory}
    return {**place, **NO_DASHBOARD, "env": environment, "silence_logs": 50}


def batch_system(config: ClusterConfig, shared: Path) -> "Cluster":
    """Workers as jobs of a batch system.

    Raises:
        ValueError: If dask-jobqueue does not accept the options.
    """
    cluster = _unstarted(config, shared)
    # Not `scale`: jobs that end, such as at their time limit, are to be replaced.
    cluster.adapt(minimum_jobs=config.jobs, maximum_jobs=config.jobs)
    return cluster


def job_script(config: ClusterConfig) -> str:
    """The script that would be submitted for each worker; nothing is submitted.

    Raises:
        ValueError: If dask-jobqueue does not accept the options.
    """
    # Files of keys end with the cluster, so their folder has to last longer.
    with _unstarted(config, Path(gettempdir())) as cluster:
        return cluster.job_script()


def _unstarted(config: ClusterConfig, shared: Path) -> "Cluster":
    with warnings.catch_warnings(), _own_interrupts():
        warnings.simplefilter("ignore")
        import dask
        import dask_jobqueue.local

    package = dask_jobqueue.local if config.kind == "local" else dask_jobqueue
    start = getattr(package, _SUBMIT[config.kind][1])
    options = _protected_options(config, shared)
    pages = {} if options["scheduler_options"]["dashboard"] else NO_PAGES
    try:
        with dask.config.set(pages):
            return start(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.kind} options: {error}") from None


def _protected_options(config: ClusterConfig, shared: Path) -> dict[str, object]:
    """The options, with keys, without a dashboard, unless they say otherwise."""
    # Whoever reaches a scheduler may run anything, so it talks to those with the keys only.
    given = dict(config.options)
    scheduler = NO_DASHBOARD | given.pop("scheduler_options", {})
    workers = given.pop("worker_extra_args", [])
    if not scheduler["dashboard"]:
        address = NO_DASHBOARD["dashboard_address"]
        workers = ["--no-dashboard", "--dashboard-address", address, *workers]
    prologue = given.pop("job_script_prologue", [])
    if config.kind != "local":  # whose script is a single command
        prologue = [f"export {SAFE_PATH}=1", *prologue]
    if "security" not in given and "protocol" not in given:
        given["security"] = _temporary_keys()
        given.setdefault("shared_temp_directory", str(shared.absolute()))
    return given | {
        "scheduler_options": scheduler,
        "worker_extra_args": workers,
        "job_script_prologue": prologue,
    }
