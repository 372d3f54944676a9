"""Options of the machine that a run works on."""

from dataclasses import dataclass

from mattergen_lite.options.checks import Workers, check_fields


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Device and processes of a run.

    Attributes:
        device: Device of the model and the potentials: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that judge; default one for each core, 0 judges in this process.
    """

    device: str = "auto"
    num_workers: Workers | None = None

    def __post_init__(self) -> None:
        check_fields(self)
