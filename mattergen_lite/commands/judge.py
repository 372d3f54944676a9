"""The function `judge`, for structures in memory."""

from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import judging_in
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements


@flat
def judge(
    structures: object,
    /,
    *,
    options: JudgeOptions,
    best: ShortlistOptions,
    audit: bool = False,
    machine: Machine,
) -> "Judgements":
    """Judge structures in memory: geometry, symmetry, charge, stability, novelty, credibility.

    Writes nothing; the judgements can be saved. Judgements that are judged again keep
    their results: only what the other options change is calculated again.

    Args:
        structures: A pymatgen Structure, ASE Atoms or a path, a mapping of names to them, an
            iterable of them, or judgements.
        audit: Compare the whole set with the known materials as a reviewer would.

    Returns:
        The candidates, best first; a structure that cannot be judged is one with an error.

    Raises:
        ValueError: If there are no structures, or an option does not make sense.
    """
    with judging_in(None, machine.num_workers) as (pool, _):
        from mattergen_lite.io.objects import records_of
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.judgements import Judgements
        from mattergen_lite.runs.judging import JudgingRun
        from mattergen_lite.scoring.judge import Judge

        records, remembered = structures, ()
        if isinstance(structures, Judgements):
            records, remembered = structures.records(), structures.answers()
        records = records_of(records)
        opened = Judge.of(options, best, device=str(pick_device(machine.device)))
        arguments = arguments_of(options, best, machine, audit=audit)
        run = JudgingRun(
            judge=opened, pool=pool, shortlist=best, audit=audit, remembered=tuple(remembered)
        )
        return run.execute([records], {"verb": "judge", "arguments": arguments})
