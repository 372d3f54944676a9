"""The command `verify`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.options.flat import flat
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.verification import RunSource, VerifyOptions

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements


WRITING = 600.0  # s, to wait for another process that writes the folder


@flat
def verify(source: RunSource, /, *, verification: VerifyOptions, machine: Machine) -> "Judgements":
    """Verify candidates of a finished run by DFT (PBE, with GPAW), and rank the run again.

    Each candidate and the cheapest known phases that balance it are calculated; a candidate above
    0.1 eV/atom is confirmed by a second reaction. The energy above the hull, band gap and moment
    fill columns dft_* of the table, and the energy decides in verdict, ranking and report. The cost
    is shown before the work. Results are cached: the same command goes on after an interrupt, and
    several processes on one run, or on the report of a campaign, share its crystals.

    Args:
        source: Folder of the run, which is written again. In Python also judgements.

    Raises:
        ValueError: If there is no finished run, or GPAW is not installed.
    """
    from mattergen_lite.files.folders import check_finished, claimed

    if isinstance(source, str | Path):
        check_finished(Path(source))
    from mattergen_lite.commands.workspace import cores
    from mattergen_lite.processes import Pool
    from mattergen_lite.runs.judgements import Judgements
    from mattergen_lite.runs.verifying import VerifyingRun, decided
    from mattergen_lite.runs.writing import rewrite_run

    is_folder = not isinstance(source, Judgements)
    judged = Judgements.load(source) if is_folder else source
    with Pool(cores(machine.num_workers)) as pool:
        results = VerifyingRun(options=verification, pool=pool).calculate(judged.candidates)
        if not is_folder:
            return judged.with_candidates(decided(judged.candidates, results))
        with claimed(Path(source), timeout=WRITING):
            judged = Judgements.load(source)  # another process may have verified others
            verified = judged.with_candidates(decided(judged.candidates, results))
            return rewrite_run(Path(source), verified, pool)
