"""From the options of a command to those of the judge."""

from mattergen_lite.options.judge import JudgeOptions, ScreenOptions, ShortlistOptions
from mattergen_lite.runs.results import JudgeOptions as Judging
from mattergen_lite.runs.results import parse_cut
from mattergen_lite.scoring.metrics.funnel import parse_required


def judging(
    judge: JudgeOptions,
    screen: ScreenOptions,
    best: ShortlistOptions,
    *,
    screened: bool = False,
    **run: object,
) -> Judging:
    """How a run judges.

    Args:
        judge: The options of every judge.
        screen: Which crystals are relaxed.
        best: What the best get.
        screened: Relax a share only, even if none is said.
        run: What the run itself decides: targets, device, when to stop, audit.

    Raises:
        ValueError: If options contradict each other or something is not installed.
    """
    options = Judging(
        relax=judge.relax,
        potential=judge.potential,
        second_opinion=judge.second_opinion,
        references=judge.reference,
        required=None if judge.require is None else parse_required(judge.require),
        cut=parse_cut(screen.keep, screen.relax_at_most, screen.control, screened=screened),
        shortlist=best.shortlist,
        phonons=best.phonons,
        elasticity=best.bulk_modulus,
        dft_inputs=best.dft_inputs,
        **run,
    )
    options.check()
    return options
