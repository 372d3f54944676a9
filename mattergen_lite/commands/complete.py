"""The command `complete`."""

from typing import TYPE_CHECKING

from mattergen_lite.commands.generation import open_generation
from mattergen_lite.commands.workspace import OutFolder
from mattergen_lite.options.checks import Count, Seed
from mattergen_lite.options.flat import flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions

if TYPE_CHECKING:
    from mattergen_lite.workflows.csp_report import StructurePrediction


@flat
def complete(
    *,
    out: OutFolder = None,
    num_samples: Count = 16,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    best: ShortlistOptions,
    seed: Seed = 0,
    machine: Machine,
    overwrite: bool = False,
) -> "StructurePrediction":
    """Complete a host: --seed-structure LiFePO4.cif --fix-sites Fe,P,O puts the Li back.

    The sites that do not stay are removed, and as many atoms of the same elements are placed anew,
    unless --insert, --elements or --formula say otherwise. The 16 samples of lowest raw energy,
    unless another number is asked for, are relaxed and ranked by energy. A seed structure or
    another known one that is recovered is named. Writes what `generate` writes, and structures.csv
    (and .parquet; one row a different structure, lowest energy first) and prediction.json. The same
    command continues an interrupted run.

    Args:
        out: Folder for the results. In Python, None writes nothing.
        num_samples: How many completions are sampled.
        seed: Same seed, same crystals, whatever the batch size.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    if request.seed_structure is None:
        raise ValueError("seed-structure: expected the host to complete, a structure file")
    asked = {"request": request, "sampler": sampler, "judge": judge, "best": best}
    record = {"num_samples": num_samples, "seed": seed}
    with open_generation(
        "complete",
        **asked,
        machine=machine,
        out=out,
        overwrite=overwrite,
        relaxing=JudgeOptions.relaxing_few,
        prepared=_completed,
        goal="complete",
        **record,
    ) as (generator, run, provenance):
        from mattergen_lite.workflows.csp import known_forms, predict
        from mattergen_lite.workflows.inpainting import Completion

        completion = Completion.of(request)
        with run.watch.stage("structures"):
            batches = generator.records(range(num_samples), num_samples, seed=seed)
            records = [record for batch in batches for record in batch]
        return predict(
            run,
            records,
            known_forms(records, run.judge.reference, completion.whole),
            title=f"{completion.text()}: {num_samples} samples",
            provenance=provenance,
        )


def _completed(request: Request) -> Request:
    """The request for what is missing in its host."""
    from mattergen_lite.workflows.inpainting import Completion

    return Completion.of(request).request
