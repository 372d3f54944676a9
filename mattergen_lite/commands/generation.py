"""Opens what turns a request into judged crystals: checks, folder, processes, model and judge."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mattergen_lite.commands.workspace import check_dft_inputs, judging_in
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.flat import arguments_of
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.scoring.checking import check_judging

if TYPE_CHECKING:
    from mattergen_lite.runs.judging import JudgingRun
    from mattergen_lite.sampling.generator import Generator
    from mattergen_lite.sampling.substitution import Substitution


class Generation(NamedTuple):
    """A generator, the run that judges its samples, and what a record says of both."""

    generator: "Generator | Substitution"
    run: "JudgingRun"
    provenance: dict[str, object]


def check_generation(
    request: Request,
    judge: JudgeOptions,
    best: ShortlistOptions | None = None,
    *,
    out: Path | None,
    goal: Goal = "discover",
) -> None:
    """Refuse a request, and options of the judge of its samples, that make no sense.

    Raises:
        ValueError: As `check_request`, `check_judging` and `check_dft_inputs`, or if another run
            writes to `out`.
    """
    from mattergen_lite.request.checking import check_request

    with claimed(out):
        constraints = check_request(request)
    check_judging(
        judge,
        best,
        has_targets=bool(request.condition),
        has_symmetry=constraints.space_groups is not None,
        goal=goal,
    )
    check_dft_inputs(best)


@contextmanager
def open_generation(
    command: str,
    *,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    best: ShortlistOptions,
    machine: Machine,
    out: Path | None,
    overwrite: bool,
    relaxing: Callable[[JudgeOptions], JudgeOptions],
    prepared: Callable[[Request], Request] = lambda request: request,
    selective: bool = True,
    goal: Goal = "discover",
    **others: object,
) -> Iterator[Generation]:
    """Hold a generator and the run that judges its samples, after all checks of the options.

    Args:
        command: Name of the command, for the record.
        relaxing: Says how many crystals are relaxed, if nothing else is asked for.
        prepared: What the request becomes after the checks.
        selective: Whether only crystals that can pass are relaxed.
        others: Further arguments of the command, for the record.

    Raises:
        ValueError: If an option does not make sense; nothing is written then.
    """
    check_generation(request, judge, best, out=out, goal=goal)
    with judging_in(out, machine.num_workers, overwrite=overwrite) as (pool, place):
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.judging import JudgingRun
        from mattergen_lite.sampling.generator import open_generator
        from mattergen_lite.scoring.execution.stopwatch import Stopwatch
        from mattergen_lite.scoring.judge import Judge

        watch, device = Stopwatch(), pick_device(machine.device)
        with watch.stage("loading"):
            generator = open_generator(prepared(request), sampler, device)
        with watch.stage("reference"):
            opened = Judge.of(
                relaxing(judge),
                best,
                targets=generator.asked,
                space_groups=generator.space_groups,
                goal=goal,
                device=str(device),
                selective=selective,
            )
        arguments = arguments_of(
            *(request, sampler, judge, best, machine), out=out, overwrite=overwrite, **others
        )
        yield Generation(
            generator,
            JudgingRun(judge=opened, pool=pool, place=place, shortlist=best, watch=watch),
            {"verb": command, "arguments": arguments} | generator.provenance(),
        )
