"""Where the workers come from: this machine, a batch system, or a scheduler that is running.

Dask does the rest: it hands out units, starts workers again that died and gives their units to
others. One GPU belongs to one worker.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mattergen_lite.config import ClusterConfig, WorkersConfig, read_yaml
from mattergen_lite.scoring.pool import available_cores

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

    Connect = Callable[[], AbstractContextManager[Client]]

CONNECT_TIMEOUT = 10.0  # s
LOOPBACK = "127.0.0.1"  # whoever reaches a scheduler may run anything


def require_dask() -> None:
    """Raise a one-line ValueError if Dask is not installed."""
    try:
        import dask_jobqueue  # noqa: F401
        import distributed  # noqa: F401
    except ImportError:
        raise ValueError(
            "campaigns need Dask: expected `pip install 'mattergen-lite[campaign]'`"
        ) from None


def connection(
    config: WorkersConfig, scheduler: str | None = None, cluster: Path | None = None
) -> "Connect":
    """How to reach the workers: each call of the result connects anew.

    Args:
        config: Workers on this machine, if nothing else is given.
        scheduler: Address of a running scheduler, such as tcp://head:8786.
        cluster: YAML of a batch system that is to start the workers.

    Raises:
        ValueError: If both are given, the file is unusable or Dask is not installed.
    """
    require_dask()
    if scheduler is not None and cluster is not None:
        raise ValueError(f"scheduler {scheduler} and cluster {cluster}: expected one of them")
    if scheduler is not None:
        return partial(_to_scheduler, scheduler)
    if cluster is not None:
        return partial(_to_cluster, partial(batch_system, ClusterConfig.parse(read_yaml(cluster))))
    return partial(_to_cluster, partial(this_machine, config))


@contextmanager
def _to_scheduler(address: str) -> "Iterator[Client]":
    from distributed import Client

    with Client(address, timeout=CONNECT_TIMEOUT) as client:
        yield client


@contextmanager
def _to_cluster(start: "Callable[[], Cluster]") -> "Iterator[Client]":
    from distributed import Client

    with start() as cluster, Client(cluster, timeout=CONNECT_TIMEOUT) as client:
        yield client


def this_machine(config: WorkersConfig) -> "Cluster":
    """Workers on this machine, each watched by a nanny that starts it again if it dies."""
    from distributed import Nanny, Scheduler, SpecCluster

    num_gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    number = config.count or num_gpus or max(1, available_cores() // config.cores)
    workers = {
        index: {"cls": Nanny, "options": _nanny_options(config, index, num_gpus, number)}
        for index in range(number)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": LOOPBACK, "port": 0}}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50, name="campaign")


def _nanny_options(
    config: WorkersConfig, index: int, num_gpus: int, number: int
) -> dict[str, object]:
    """What a worker on this machine is started with."""
    threads = str(config.cores)
    environment = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
    ) | {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    if num_gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(index % num_gpus)
    memory = config.memory if config.memory != "auto" else 1 / number
    return {
        "host": LOOPBACK,
        "nthreads": 1,
        "memory_limit": memory,
        "dashboard": False,
        "env": environment,
        "silence_logs": 50,
    }


def batch_system(config: ClusterConfig) -> "Cluster":
    """Workers as jobs of a batch system.

    Raises:
        ValueError: If dask-jobqueue does not accept the options.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dask_jobqueue
        from dask_jobqueue.local import LocalCluster

    kinds = {
        "slurm": dask_jobqueue.SLURMCluster,
        "pbs": dask_jobqueue.PBSCluster,
        "sge": dask_jobqueue.SGECluster,
        "lsf": dask_jobqueue.LSFCluster,
        "oar": dask_jobqueue.OARCluster,
        "htcondor": dask_jobqueue.HTCondorCluster,
        "local": LocalCluster,  # job scripts run on this machine: to try the options out
    }
    try:
        cluster = kinds[config.kind](**config.options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.kind} options: {error}") from None
    # Not `scale`: jobs that end, such as at their time limit, are to be replaced.
    cluster.adapt(minimum_jobs=config.jobs, maximum_jobs=config.jobs)
    return cluster
