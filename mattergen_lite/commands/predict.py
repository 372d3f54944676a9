"""The command `predict`."""

from pathlib import Path
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
def predict(
    *,
    out: OutFolder = None,
    num_samples: Count = 64,
    truth: Path | None = None,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    best: ShortlistOptions,
    seed: Seed = 0,
    machine: Machine,
    overwrite: bool = False,
) -> "StructurePrediction":
    """Predict the structure of a composition: --formula K2PdCl4.

    Samples cells of few formula units first, on templates of known crystals, relaxes the 16 of
    lowest raw energy, unless another number is asked for, and ranks them by energy. A known
    structure that is recovered is named, with its distance and its energy relative to the best.
    Writes what `generate` writes, and structures.csv (and .parquet; one row a different structure,
    lowest energy first) and prediction.json. The same command continues an interrupted run.

    Args:
        out: Folder for the results. In Python, None writes nothing.
        num_samples: How many crystals are sampled, in cells of all sizes together.
        truth: Structure to compare with, one in any readable format.
        seed: Same seed, same crystals, whatever the batch size.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    if request.formula is None:
        raise ValueError("formula: expected the composition to predict, such as --formula LiFePO4")
    if request.seed_structure is not None:
        raise ValueError("seed-structure: `complete` fills a host, `predict` takes a formula only")
    asked = {"request": request, "sampler": sampler, "judge": judge, "best": best}
    record = {"num_samples": num_samples, "truth": truth, "seed": seed}
    with open_generation(
        "predict",
        **asked,
        machine=machine,
        out=out,
        overwrite=overwrite,
        relaxing=JudgeOptions.relaxing_few,
        goal="predict",
        **record,
    ) as (generator, run, provenance):
        from mattergen_lite.workflows import csp

        given = [] if truth is None else [csp.read_truth(truth, request.formula)]
        with run.watch.stage("structures"):
            cells, records = csp.sample_cells(generator, num_samples, seed)
        return csp.predict(
            run,
            records,
            csp.known_polymorphs(request.formula, run.judge.reference, given),
            title=f"structure of {request.formula}: {num_samples} samples",
            cells=cells,
            provenance=provenance,
        )
