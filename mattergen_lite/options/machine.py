"""Options of the machine that a run works on."""

from mattergen_lite.options.checks import Workers, options


@options
class Machine:
    """Device and processes of a run.

    Attributes:
        device: Device of the model and the potentials: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that judge; default one for each core, 0 judges in this process.
    """

    device: str = "auto"
    num_workers: Workers | None = None
