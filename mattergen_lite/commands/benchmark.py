"""The command `benchmark`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattergen_lite.commands.workspace import JUDGE, check_source, cores
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.checks import Count, Texts
from mattergen_lite.options.flat import flat
from mattergen_lite.options.judge import JudgeOptions, PotentialChoice
from mattergen_lite.options.machine import Machine

if TYPE_CHECKING:
    from mattergen_lite.benchmarking.comparison import Benchmarked

ProtocolName = Literal["cdvae", "mattergen", "lemat", "crystalite", "csp", "conditional"]


@flat
def benchmark(
    source: Path,
    /,
    *,
    protocol: ProtocolName,
    out: Path,
    beside: Texts = (),
    truth: Path | None = None,
    limit: Count | None = None,
    potential: PotentialChoice = JudgeOptions.potential,
    machine: Machine,
    overwrite: bool = False,
) -> "Benchmarked":
    """Evaluate crystals under one of the field's protocols, beside others and published figures.

    Writes benchmark.md and .png (the table, what its columns mean, how it differs from the papers)
    and benchmark.json. Structures are judged first, into judged/ beside them; the folder of an
    earlier run is used as it is. The same command continues an interrupted benchmark.

    Args:
        source: Anything that `score` reads, or the folder of an earlier run.
        protocol: cdvae: validity, distributions and coverage of raw crystals. mattergen: S.U.N.
            within 0.1 eV/atom of the hull, displacement. lemat: S.U.N. on the hull and within 0.1.
            crystalite: S.U.N. against MP-20's training split. csp: match rate of known structures.
            conditional: hit rates of the targets of a run.
        out: Folder for the results.
        beside: Another set as name=path; repeat for several.
        truth: Known structures for csp, in any readable format: in the order of the samples, or to
            be found by their formula.
        limit: Largest number of structures of each set, from the first.
        potential: Gives the energy above the hull of crystals that CHGNet relaxed.
        overwrite: Replace an earlier benchmark in the same folder.

    Raises:
        ValueError: If a source or an option does not fit the protocol; nothing is written then.
    """
    check_source(source, out)
    from mattergen_lite.processes import Pool

    with claimed(out), Pool(cores(machine.num_workers), preload=JUDGE) as pool:
        from mattergen_lite.benchmarking.benchmark import benchmark as run
        from mattergen_lite.benchmarking.comparison import RESULT
        from mattergen_lite.benchmarking.protocols import protocol_named
        from mattergen_lite.benchmarking.sets import BenchmarkOptions, parse_sets
        from mattergen_lite.model import pick_device

        if (out / RESULT).exists() and not overwrite:
            raise ValueError(
                f"{out} holds an earlier benchmark: choose another folder, or --overwrite it"
            )
        options = BenchmarkOptions(
            protocol=protocol_named(protocol),
            out=out,
            potential=potential,
            device=str(pick_device(machine.device)),
            limit=limit,
            truth=truth,
        )
        return run(parse_sets(source, beside), options, pool)
