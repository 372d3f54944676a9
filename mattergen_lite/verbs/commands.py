"""What the package does, as Python functions: the command line registers these very functions.

Slow imports happen inside them, so that `--help` stays instant.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattergen_lite.folders import claimed, claimed_file, is_first_process
from mattergen_lite.options import (
    Atoms,
    BatchSize,
    Churn,
    Count,
    LearningRate,
    Length,
    Minutes,
    Number,
    OptimizerSteps,
    Seed,
    Share,
    ShareBelowOne,
    SolverSteps,
    StabilityGuidance,
    Strength,
    Temperature,
    Workers,
    checked,
)

if TYPE_CHECKING:
    from mattergen_lite.benchmarking.benchmark import Benchmarked
    from mattergen_lite.campaign.run import DryRun
    from mattergen_lite.campaign.status import Progress
    from mattergen_lite.data.curation import DatasetInfo, PrepareReport
    from mattergen_lite.library.exchange import Exchanged
    from mattergen_lite.probe.probe import Probe
    from mattergen_lite.runs.results import Judged
    from mattergen_lite.training.finetuning import Finetuned
    from mattergen_lite.workflows.discovery import Discovered

DEFAULT_CHECKPOINT = "mp"
JUDGE = "mattergen_lite.scoring.stage"  # what judging processes import while others still work
BuiltInPotential = Literal["chgnet", "7net-l3i5"]
ProtocolName = Literal["cdvae", "mattergen", "lemat", "crystalite", "csp", "conditional"]


@checked
def generate(
    *,
    out: Path,
    num_samples: Count = 16,
    checkpoint: str = DEFAULT_CHECKPOINT,
    condition: Sequence[str] = (),
    guidance: Sequence[str] = (),
    probe: Sequence[Path] = (),
    measured_by: str | None = None,
    elements: str | None = None,
    chemical_system: str | None = None,
    exclude: str | None = None,
    formula: str | None = None,
    formula_units: str | None = None,
    num_atoms: str | None = None,
    space_group: str | None = None,
    seed_structure: Path | None = None,
    fix_sites: str | None = None,
    fix_lattice: bool = False,
    vacancies: str | None = None,
    seed: Seed = 0,
    first_sample: Number = 0,
    steps: SolverSteps = 50,
    solver: Literal["multistep", "heun"] = "multistep",
    churn: Churn = 8.0,
    temperature: Temperature = 0.5,
    strength: Strength = 1.0,
    stability_guidance: StabilityGuidance = 2.0,
    batch_size: BatchSize = 64,
    device: str = "auto",
    relax: bool = True,
    potential: BuiltInPotential = "7net-l3i5",
    second_opinion: BuiltInPotential | None = "chgnet",
    reference: Sequence[Path] = (),
    num_candidates: Count | None = None,
    until: Count | None = None,
    max_samples: Count = 1000,
    time_budget: Minutes | None = None,
    keep: Share | None = None,
    relax_at_most: Count | None = None,
    control: Share = 0.1,
    require: str | None = None,
    shortlist: Length = 10,
    phonons: bool = False,
    elastic: bool = False,
    dft_inputs: bool = False,
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Generate crystals and judge each of them.

    Writes candidates.csv (and .parquet; one row a sample, best first), cifs/ and relaxed/
    (symmetrised), structures.extxyz and relaxed.extxyz, summary.json (shares and their protocol)
    and run.json, which has all it takes to make any one sample again. An interrupted run is
    continued by the same command.

    Args:
        out: Folder for the results.
        num_samples: How many crystals; with --until, how many at a time.
        checkpoint: Name of a shipped model, or path of a model folder.
        condition: Target such as band_gap=2.0, a range such as
            band_gap=1.5..2.5, or a bound such as 'bulk_modulus>300' or 'e_above_hull<0.05' (in
            quotes, for the shell); repeat for several. Each sample draws its value from a range.
        guidance: Weight of the targets: 0 ignores them, 1 (default) samples the conditional model,
            2 insists; band_gap=3 sets that of one property. Repeat for several.
        probe: Folder that `steer` wrote: steers towards the condition on its property, and measures
            it on every sample; repeat for several.
        measured_by: Model whose learned oracles measure what has no exact one, such as a band gap,
            by name or folder; default the checkpoint itself. Fine-tuned models have none.
        elements: Elements that may occur, such as Li,P,S; no sample contains any other.
        chemical_system: Elements of which every sample has each and no other, such as Li-P-S.
        exclude: Elements that must not occur, such as Pb,Cd or toxic,radioactive,scarce.
        formula: Composition of every sample, such as LiFePO4 (crystal structure prediction).
        formula_units: How many formula units a cell has, such as 2 or 1..4; default what fits.
        num_atoms: Atoms per primitive cell, such as 8 or 4..12.
        space_group: Symmetry of every sample, on the template of a known crystal that has it:
            any (default, as known crystals have it), 225, 195..230 or cubic; none prescribes none.
        seed_structure: Crystal to build into, one structure in any readable format.
        fix_sites: Sites of the seed structure that stay: all (default), none, numbers from 0 such
            as 0,1,4..7, or elements such as Fe,O. Its other sites are left out.
        fix_lattice: Keep the seed structure's cell.
        vacancies: Atoms to place beside the fixed sites, such as 2 or 1..4; default as many as
            sites are left out. With --elements, of these elements.
        seed: Same seed, same crystals, whatever the batch size.
        first_sample: Number of the first sample; with num_samples 1, makes one sample again.
        steps: Solver steps; more is slower and better.
        solver: multistep takes one network call a step, heun two.
        churn: Noise put back at each step: 0 is deterministic, 1 the plain reverse diffusion.
        temperature: Spread of that noise in coordinates and cell: 1 is the reverse diffusion's,
            less gives likelier and less varied geometries.
        strength: Noise to start from: 1 (default) is all noise; less starts from the known crystal
            whose template a sample takes, so noised, and keeps something of it.
        stability_guidance: Weight of the wish that every sample is on the convex hull, where the
            checkpoint knows e_above_hull: 0 does without it, 1 is conditional, above insists.
        batch_size: Crystals denoised together.
        device: cpu, cuda, cuda:1, or auto.
        relax: Relax every crystal with CHGNet and judge its stability; seconds a crystal.
        potential: Decides about the energy above the hull of what relaxed.
        second_opinion: Is compared with it; a disagreement is flagged.
        reference: Known structures to be novel against, beside the embedded Materials Project:
            any source that `score` reads; repeat for several.
        num_candidates: Deliver so many finished candidates instead of judging a number of samples:
            rounds of 64 samples, each screened by the energy of the raw crystal, of which the
            likeliest fifth (--keep) is relaxed, until so many pass every required check.
        until: Sample on until so many candidates pass every required check.
        max_samples: Where --num-candidates and --until give up.
        time_budget: Minutes after which they begin no further round. A run that it ends depends on
            the machine; without one the same seed gives the same candidates.
        keep: Share of what passes the cheap checks to relax, the likeliest to be metastable by the
            energies of the raw crystals first; default all, 0.2 with --num-candidates.
        relax_at_most: Relax no more than so many, likewise.
        control: Share of the others that is relaxed all the same, to measure what the screen loses.
        require: Checks to pass, of physical,neutral,unique,novel,metastable,on_target; default all
            that are made. With --until, a crystal that fails a cheap one is not relaxed.
        shortlist: How many of the best get the deeper checks and the DFT inputs.
        phonons: Look for imaginary modes by finite displacements; minutes a crystal.
        elastic: Find the bulk modulus from the equation of state.
        dft_inputs: Write VASP input sets into dft/, without pseudopotentials.
        num_workers: Processes that judge; default one a core, 0 judges in this process.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    arguments = dict(locals())
    from mattergen_lite.processes import Pool, available_cores

    workers = available_cores() if num_workers is None else num_workers
    with claimed(out), Pool(workers, preload=JUDGE) as pool:
        from mattergen_lite.config import GenerateConfig
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.results import (
            ROUND_SIZE,
            JudgeOptions,
            Stopwatch,
            check_folder,
            judge_and_write,
            parse_candidates,
            parse_cut,
        )
        from mattergen_lite.sampling.generator import open_generator
        from mattergen_lite.scoring.metrics.funnel import parse_required

        check_folder(out, overwrite)
        wanted = parse_candidates(num_candidates, until)
        at_once = num_samples if num_candidates is None else ROUND_SIZE
        asked = {name: arguments[name] for name in GenerateConfig.model_fields}
        watch = Stopwatch()
        with watch.stage("loading"):
            generator = open_generator(GenerateConfig.parse(asked), pick_device(device))
        judging = JudgeOptions(
            relax=relax,
            potential=potential,
            second_opinion=second_opinion,
            references=reference,
            targets=generator.asked,
            device=str(pick_device(device)),
            required=None if require is None else parse_required(require),
            until=wanted,
            time_budget=time_budget,
            cut=parse_cut(
                keep, relax_at_most, control, screened=relax and num_candidates is not None
            ),
            shortlist=shortlist,
            phonons=phonons,
            elasticity=elastic,
            dft_inputs=dft_inputs,
        )
        judging.check()
        most = num_samples if wanted is None else max(at_once, max_samples)
        most = max_samples if num_candidates is not None else most
        batches = generator.records(range(first_sample, first_sample + most), at_once, seed=seed)
        provenance = {"verb": "generate", "arguments": arguments} | generator.provenance()
        return judge_and_write(batches, out / "candidates.csv", watch, provenance, judging, pool)


@checked
def score(
    source: Path,
    /,
    *,
    out: Path,
    limit: Count | None = None,
    device: str = "auto",
    relax: bool = True,
    keep: Share | None = None,
    relax_at_most: Count | None = None,
    control: Share = 0.1,
    potential: BuiltInPotential = "7net-l3i5",
    second_opinion: BuiltInPotential | None = "chgnet",
    reference: Sequence[Path] = (),
    shortlist: Length = 10,
    phonons: bool = False,
    elastic: bool = False,
    dft_inputs: bool = False,
    audit: bool = False,
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Judge crystals from any source: geometry, symmetry, charge, stability, novelty, credibility.

    Writes scores.csv (and .parquet; one row a crystal, best first, with its error if it has one),
    cifs/ and relaxed/ (symmetrised), structures.extxyz and relaxed.extxyz, summary.json (shares and
    their protocol) and run.json. An interrupted run is continued by the same command.

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column,
            pymatgen JSON, or the folder of an earlier run: its crystals as they came or, with
            --no-relax, as they relaxed there.
        out: Folder for the results.
        limit: Judge only so many structures, the first ones.
        device: Of the potentials: cpu, cuda, cuda:1, or auto.
        relax: Relax every crystal with CHGNet and judge its stability; seconds a crystal.
        keep: Share of what passes the cheap checks to relax, the likeliest to be metastable by the
            energies of the raw crystals first; default every crystal, passing or not.
        relax_at_most: Relax no more than so many, likewise.
        control: Share of the others that is relaxed all the same, to measure what the screen loses.
        potential: Decides about the energy above the hull of what relaxed.
        second_opinion: Is compared with it; a disagreement is flagged.
        reference: Known structures to be novel against, beside the embedded Materials Project:
            any source that `score` reads; repeat for several.
        shortlist: How many of the best get the deeper checks and the DFT inputs.
        phonons: Look for imaginary modes by finite displacements; minutes a crystal.
        elastic: Find the bulk modulus from the equation of state.
        dft_inputs: Write VASP input sets into dft/, without pseudopotentials.
        audit: Compare the whole set with the known materials as a reviewer would: elements,
            intermetallics, dopant-like compositions, unseen chemical systems; audit.json and .png.
        num_workers: Processes that judge; default one a core, 0 judges in this process.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If the source holds no structures; nothing is written then.
    """
    arguments = dict(locals())
    from mattergen_lite.processes import Pool, available_cores

    workers = available_cores() if num_workers is None else num_workers
    with claimed(out), Pool(workers, preload=JUDGE) as pool:
        from mattergen_lite.io.records import StructureRecord
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.results import (
            RECORD,
            JudgeOptions,
            Stopwatch,
            check_folder,
            judge_and_write,
            parse_cut,
            read_records,
            read_run,
        )

        check_folder(out, overwrite)
        judging = JudgeOptions(
            relax=relax,
            cut=parse_cut(keep, relax_at_most, control),
            potential=potential,
            second_opinion=second_opinion,
            references=reference,
            device=str(pick_device(device)),
            shortlist=shortlist,
            phonons=phonons,
            elasticity=elastic,
            dft_inputs=dft_inputs,
            audit=audit,
        )
        judging.check()
        watch = Stopwatch()
        with watch.stage("reading"):
            if (source / RECORD).exists():
                ranked = read_run(source, relaxed=not relax)[:limit]
                records = [StructureRecord(one.name, one.structure) for one in ranked]
            else:
                records = read_records(source, limit, pool)
        provenance = {"verb": "score", "arguments": arguments}
        return judge_and_write([records], out / "scores.csv", watch, provenance, judging, pool)


@checked
def benchmark(
    source: Path,
    /,
    *,
    protocol: ProtocolName,
    out: Path,
    beside: Sequence[str] = (),
    truth: Path | None = None,
    limit: Count | None = None,
    potential: BuiltInPotential = "7net-l3i5",
    device: str = "auto",
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Benchmarked":
    """Evaluate crystals under one of the field's protocols, beside others and published figures.

    Writes benchmark.md and .png (the table, what its columns mean, how it differs from the papers)
    and benchmark.json. What is not the folder of an earlier run is judged first, into
    judged/ beside them; a run's own judgements and relaxations are used as they are. An interrupted
    benchmark is continued by the same command.

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
        limit: Take only so many structures of each set, the first ones.
        potential: Decides about the energy above the hull of what CHGNet relaxed.
        device: Of the potentials: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that judge; default one a core, 0 judges in this process.
        overwrite: Replace an earlier benchmark in the same folder.

    Raises:
        ValueError: If a source or an option does not fit the protocol; nothing is written then.
    """
    from mattergen_lite.processes import Pool, available_cores

    workers = available_cores() if num_workers is None else num_workers
    with claimed(out), Pool(workers, preload=JUDGE) as pool:
        from mattergen_lite.benchmarking.benchmark import RESULT, BenchmarkOptions, parse_sets
        from mattergen_lite.benchmarking.benchmark import benchmark as run
        from mattergen_lite.benchmarking.protocols import protocol_named
        from mattergen_lite.model import pick_device

        if (out / RESULT).exists() and not overwrite:
            raise ValueError(
                f"{out} holds an earlier benchmark: choose another folder or pass --overwrite"
            )
        options = BenchmarkOptions(
            protocol=protocol_named(protocol),
            out=out,
            potential=potential,
            device=str(pick_device(device)),
            limit=limit,
            truth=truth,
        )
        return run(parse_sets(source, beside), options, pool)


@checked
def discover(
    *,
    out: Path,
    rounds: Count = 5,
    patience: Count = 2,
    num_samples: Count = 64,
    checkpoint: str = DEFAULT_CHECKPOINT,
    condition: Sequence[str] = (),
    guidance: Sequence[str] = (),
    measured_by: str | None = None,
    elements: str | None = None,
    chemical_system: str | None = None,
    exclude: str | None = None,
    formula: str | None = None,
    num_atoms: str | None = None,
    space_group: str | None = None,
    require: str | None = None,
    relax: bool = True,
    potential: BuiltInPotential = "7net-l3i5",
    second_opinion: BuiltInPotential | None = "chgnet",
    reference: Sequence[Path] = (),
    finetune_steps: OptimizerSteps = 200,
    learning_rate: LearningRate = 1e-4,
    base_share: ShareBelowOne = 0.8,
    seed: Seed = 0,
    steps: SolverSteps = 50,
    batch_size: BatchSize = 64,
    device: str = "auto",
    num_workers: Workers | None = None,
) -> "Discovered":
    """Generate, judge, learn from what passed, and again; the same command continues after a kill.

    Each round starts from the checkpoint, taught all that earlier rounds have found together with
    crystals of the embedded table, so that it does not forget them. What has been found counts as
    known from then on. Writes <out>/rounds/<number>/ (generated/, as `generate` writes it; tuning/,
    as `finetune`; found.parquet), and rounds.csv, rounds.json and rounds.png.

    Args:
        out: Folder of the loop.
        rounds: At most so many.
        patience: Stop after so many rounds without a higher pass rate.
        num_samples: Crystals a round.
        checkpoint: Name of a shipped model, or path of a model folder, to start from.
        condition: Targets, as of `generate`; repeat for several.
        guidance: Weight of the targets, as of `generate`.
        measured_by: Model whose learned oracles measure what has no exact one; default the
            checkpoint, in every round.
        elements: Elements that may occur, such as Li,P,S.
        chemical_system: Elements of which every sample has each and no other, such as Li-P-S.
        exclude: Elements that must not occur, such as Pb,Cd or toxic,radioactive,scarce.
        formula: Composition of every sample, such as LiFePO4.
        num_atoms: Atoms per primitive cell, such as 8 or 4..12.
        space_group: Symmetry of every sample, on the template of a known crystal that has it:
            any (default, as known crystals have it), 225, 195..230 or cubic; none prescribes none.
        require: Checks to pass, of physical,neutral,unique,novel,metastable,on_target; default all
            that are made. What passes is learnt from.
        relax: Relax every crystal with CHGNet and judge its stability; seconds a crystal.
        potential: Decides about the energy above the hull of what relaxed.
        second_opinion: Is compared with it.
        reference: Known structures to be novel against, beside the embedded Materials Project.
        finetune_steps: Optimiser steps before every round but the first.
        learning_rate: Its highest value.
        base_share: Share of each batch that comes from the embedded table.
        seed: Of samples and training.
        steps: Solver steps of the sampler.
        batch_size: Crystals denoised together, and learnt from together.
        device: cpu, cuda, or auto.
        num_workers: Processes that judge; default one a core, 0 judges in this process.

    Raises:
        ValueError: If an argument does not make sense, or `out` holds a loop of other settings.
    """
    arguments = dict(locals())
    from mattergen_lite.model import find_checkpoint
    from mattergen_lite.training.finetuning import FinetuneOptions
    from mattergen_lite.workflows.discovery import DiscoverOptions, Request, settings
    from mattergen_lite.workflows.discovery import discover as run

    def judged(request: Request) -> None:
        generate(
            out=request.out,
            checkpoint=str(request.checkpoint),
            first_sample=request.first_sample,
            num_samples=num_samples,
            condition=condition,
            guidance=guidance,
            measured_by=measured_by or checkpoint,
            elements=elements,
            chemical_system=chemical_system,
            exclude=exclude,
            formula=formula,
            num_atoms=num_atoms,
            space_group=space_group,
            require=require,
            relax=relax,
            potential=potential,
            second_opinion=second_opinion,
            reference=[*reference, *request.found],
            seed=seed,
            steps=steps,
            batch_size=batch_size,
            device=device,
            num_workers=num_workers,
        )

    options = DiscoverOptions(
        rounds=rounds,
        patience=patience,
        num_samples=num_samples,
        settings=settings(arguments),
        tuning=FinetuneOptions(
            steps=finetune_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            base_share=base_share,
            seed=seed,
            device=device,
        ),
    )
    with claimed(out):
        return run(find_checkpoint(checkpoint), out, judged, options)


@checked
def train(
    *settings: str,
    max_time: str | None = None,
    select: Literal["last", "loss", "sun"] | None = None,
) -> Path:
    """Train a model, or continue the run that its run_dir already holds.

    Args:
        settings: Configuration files, merged left to right, then overrides such as
            trainer.devices=4 or run_dir=runs/a. A file is looked for on disk, then among the
            shipped configurations.
        max_time: DD:HH:MM:SS after which this launch stops; the same command then continues.
        select: Which weights to keep: the last (default), those of the lowest validation loss, or
            those with the most samples that are credible, metastable, unique and novel. The last
            samples and judges trainer.select_samples crystals at each validation: a minute or two
            on two cores.

    Returns:
        The exported model folder, which `generate --checkpoint` takes.

    Raises:
        ValueError: For an unknown key, a bad value or an unusable dataset.
    """
    from mattergen_lite.config import RunConfig
    from mattergen_lite.training.trainer import train as run

    files = [_configuration(text) for text in settings if "=" not in text]
    overrides = [text for text in settings if "=" in text]
    if max_time is not None:
        overrides.append(f"trainer.max_time='{max_time}'")
    if select is not None:
        overrides.append(f"trainer.select={select}")
    config = RunConfig.load(files, overrides)
    with claimed(config.run_dir) if is_first_process() else nullcontext():
        if config.trainer.select != "sun":
            return run(config)  # needs no more than a bare training node has
        from mattergen_lite.training.selection import expected_credible_msun

        return run(
            config, partial(expected_credible_msun, num_samples=config.trainer.select_samples)
        )


def _configuration(text: str) -> Path:
    """A configuration file on disk or, failing that, the shipped one of that name."""
    from mattergen_lite.config import shipped

    path = Path(text)
    return path if path.exists() else shipped("configs") / path.name


@checked
def finetune(
    source: str,
    /,
    *,
    property: str,
    out: Path,
    checkpoint: str = DEFAULT_CHECKPOINT,
    kind: Literal["real", "category"] = "real",
    log: bool = False,
    unit: str = "",
    steps: OptimizerSteps = 1000,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 3e-4,
    base_share: ShareBelowOne = 0.5,
    patience: Count = 6,
    max_time: str | None = None,
    seed: Seed = 0,
    device: str = "auto",
    num_workers: Workers | None = None,
) -> "Finetuned":
    """Teach a model a property of your own; the same command continues after a kill.

    Writes <out>/model, which `generate --checkpoint <out>/model --condition <property>=...` takes,
    and which can be taught a further property.

    Args:
        source: csv with a column cif, or with a column file that names structure files beside it;
            a folder with such a csv; or a table that `data prepare` wrote.
        property: Column of the values; empty where unknown. Its unit is yours.
        out: Folder of the run.
        checkpoint: Name of a shipped model, or path of a model folder, to start from.
        kind: real numbers, or categories numbered from 1.
        log: Learn the logarithm: for positive values that span decades.
        unit: Of the values, for messages only.
        steps: Most optimiser steps; it stops earlier when held-out crystals no longer gain.
        batch_size: Crystals a step.
        learning_rate: Its highest value.
        base_share: Share of each batch that comes from the embedded table, so that the model does
            not forget what it knew.
        patience: Validations without improvement before stopping; a full run has 20.
        max_time: DD:HH:MM:SS after which this launch stops; the same command then continues.
        seed: Of noise, order and the split into training and held-out crystals.
        device: cpu, cuda, or auto.
        num_workers: Processes that read structures; default all cores.

    Raises:
        ValueError: If the source, the column or an option is unusable; nothing is written then.
    """
    from mattergen_lite.config import PropertyConfig
    from mattergen_lite.data.labels import read_labelled
    from mattergen_lite.model import find_checkpoint
    from mattergen_lite.processes import available_cores
    from mattergen_lite.training.finetuning import FinetuneOptions
    from mattergen_lite.training.finetuning import finetune as run

    options = FinetuneOptions(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        base_share=base_share,
        patience=patience,
        max_time=max_time,
        seed=seed,
        device=device,
    )
    with claimed(out):
        base = find_checkpoint(checkpoint)
        crystals = read_labelled(
            source,
            PropertyConfig(name=property, kind=kind, log=log, unit=unit),
            keep=out / "data",
            seed=seed,
            num_workers=num_workers or available_cores(),
        )
        return run(base, crystals, out, options)


@checked
def steer(
    source: str,
    /,
    *,
    property: str,
    out: Path,
    checkpoint: str = DEFAULT_CHECKPOINT,
    log: bool = False,
    unit: str = "",
    seed: Seed = 0,
    device: str = "auto",
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Probe":
    """Fit a probe of a property of your own to a frozen model: about a minute on one core.

    `generate --probe <out> --condition <property>=...` then steers by its gradient and measures
    with it. Prints its errors on held-out crystals at every noise level.

    Args:
        source: csv with a column cif, or with a column file that names structure files beside it;
            a folder with such a csv; or a table that `data prepare` wrote. Crystals in its split
            "test" are left out.
        property: Column of the values; empty where unknown. Its unit is yours.
        out: Folder for the probe.
        checkpoint: Name of a shipped model, or path of a model folder.
        log: Fit the logarithm: for positive values that span decades.
        unit: Of the values, for messages only.
        seed: Of the noise.
        device: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that read structures; default all cores.
        overwrite: Replace an earlier probe in the same folder.

    Raises:
        ValueError: If the source or the column is unusable, or the probe is no better than the mean
            of the labels; no probe is written then.
    """
    from mattergen_lite.config import PropertyConfig
    from mattergen_lite.data.labels import read_labelled
    from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device, weights_hash
    from mattergen_lite.probe.probe import CONFIG, Labels, ModelIdentity, fit
    from mattergen_lite.processes import available_cores
    from mattergen_lite.training.finetuning import fits

    with claimed(out):
        if (out / CONFIG).exists() and not overwrite:
            raise ValueError(f"{out} holds a probe: choose another folder or pass --overwrite")
        folder = find_checkpoint(checkpoint)
        model = CrystalDiffusion.load(folder, pick_device(device))
        crystals = read_labelled(
            source,
            PropertyConfig(name=property, log=log, unit=unit),
            keep=out / "data",
            seed=seed,
            num_workers=num_workers or available_cores(),
        )
        identity = ModelIdentity(checkpoint=checkpoint, weights_sha256=weights_hash(folder))
        small = crystals.restricted(fits(crystals.table, model.config))
        labels = Labels.from_table(small.labelled_outside("test"), property)
        fitted = fit(model, labels, crystals.prop, identity, seed)
        fitted.save(out)
        return fitted


@checked
def data_prepare(
    source: Path,
    out: Path,
    /,
    *,
    max_atoms: Atoms = 52,
    val_fraction: ShareBelowOne = 0.1,
    test_fraction: ShareBelowOne = 0.1,
    seed: Seed = 0,
    num_workers: Workers | None = None,
) -> "PrepareReport":
    """Turn structures from any source into a crystal table for training.

    Cells are reduced (primitive, Niggli); numeric columns become properties. Broken structures are
    listed in <out>.errors.csv, duplicates in <out>.duplicates.csv.

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column, or
            pymatgen JSON.
        out: The parquet table to write.
        max_atoms: Largest primitive cell to keep.
        val_fraction: Share of crystals for validation, unless the source has a split column.
        test_fraction: Share of crystals for testing, likewise.
        seed: Seed of the random split.
        num_workers: Processes; default all cores.

    Raises:
        ValueError: If the source holds no usable structure; nothing is written then.
    """
    from mattergen_lite.data.curation import prepare
    from mattergen_lite.processes import available_cores

    with claimed_file(out):
        return prepare(
            source,
            out,
            num_workers=num_workers or available_cores(),
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
            max_atoms=max_atoms,
        )


@checked
def data_info(table: str = "embedded", /, *, png: Path | None = None) -> "DatasetInfo":
    """Summarise a crystal table: counts, sizes, elements, property coverage.

    Args:
        table: A parquet table, or the one inside the package.
        png: Also draw the summary into this file.

    Raises:
        ValueError: If the table is missing or is not a crystal table.
    """
    from mattergen_lite.data.curation import describe

    info = describe(table)
    if png is not None:
        with claimed_file(png):
            info.write_png(png)
    return info


@checked
def campaign_run(
    *settings: str,
    scheduler: str | None = None,
    cluster: Path | None = None,
    dry_run: bool = False,
) -> "Progress | DryRun":
    """Generate or read, judge and store any number of crystals, on any number of machines.

    Work is cut into units. A finished unit is a parquet file in <run_dir>/candidates, which appears
    at once; what is finished is never done again. After a kill of anything, the same command goes
    on. Workers and this command need to see the same run_dir.

    Args:
        settings: Configuration files, merged left to right, then overrides such as num_samples=4096
            or run_dir=runs/a. A file is looked for on disk, then among the shipped configurations.
        scheduler: Address of a running Dask scheduler, such as tls://head:8786; default workers on
            this machine, one a GPU or a core.
        cluster: YAML that says how a batch system starts workers, such as configs/slurm.yaml.
        dry_run: Print what would be done and, with --cluster, the script of a job; start nothing.

    Raises:
        ValueError: For a bad configuration, a folder that holds another campaign, or a full disk.
    """
    from mattergen_lite.campaign.plan import Plan
    from mattergen_lite.campaign.run import DryRun, run
    from mattergen_lite.campaign.workers import connection
    from mattergen_lite.config import CampaignConfig

    files = [_configuration(text) for text in settings if "=" not in text]
    config = CampaignConfig.load(files, [text for text in settings if "=" in text])
    batch_system = None if cluster is None else _configuration(str(cluster))
    if dry_run:
        return DryRun.of(Plan.of(config), batch_system)
    with claimed(config.run_dir):
        connect = connection(config.workers, config.run_dir, scheduler, batch_system)
        return run(Plan.of(config), connect)


@checked
def campaign_status(run_dir: Path, /) -> "Progress":
    """How far a campaign is: counts of the funnel, rate, time left, what was given up and why.

    Args:
        run_dir: Folder of the campaign, running or not.

    Raises:
        ValueError: If it holds no campaign.
    """
    from mattergen_lite.campaign.status import progress

    return progress(run_dir)


@checked
def campaign_report(
    run_dir: Path,
    /,
    *,
    out: Path | None = None,
    shortlist: Count = 100,
    phonons: bool = False,
    elastic: bool = False,
    dft_inputs: bool = False,
    num_workers: Workers | None = None,
) -> "Judged":
    """Write the shortlist of a campaign, running or not: the best of all units, each kind once.

    Writes the files of `generate`, of the shortlist only, campaign.json (counts of the whole
    campaign) and quarantine.csv (crystals that were given up, with the reason).

    Args:
        run_dir: Folder of the campaign.
        out: Folder for the report; default <run_dir>/report, which is replaced.
        shortlist: How many candidates.
        phonons: Look for imaginary modes of each by finite displacements; minutes a crystal.
        elastic: Find the bulk modulus of each from the equation of state.
        dft_inputs: Write VASP input sets into dft/, without pseudopotentials.
        num_workers: Processes; default one a core, 0 works in this process.

    Raises:
        ValueError: If there is no campaign or nothing finished yet.
    """
    from mattergen_lite.campaign.plan import Plan
    from mattergen_lite.campaign.report import Deeper, report
    from mattergen_lite.processes import Pool, available_cores

    deeper = Deeper(phonons=phonons, elasticity=elastic, dft_inputs=dft_inputs)
    workers, folder = available_cores() if num_workers is None else num_workers, out
    if folder is None:
        Plan.read(run_dir)  # before a folder is made in what may be no campaign
        folder = run_dir / "report"
    with claimed(folder), Pool(workers) as pool:
        return report(run_dir, folder, shortlist, deeper, pool)


@checked
def library_export(source: Path, destination: str, /, *, passed_only: bool = False) -> "Exchanged":
    """Write judged crystals as a database that others can search.

    Every crystal keeps its name: exporting again adds what is new.

    Args:
        source: Folder of a campaign, or of a run of generate or score.
        destination: library.db (ASE, SQLite), postgresql://user:password@host:port/name (ASE,
            PostgreSQL) or library.jsonl (OPTIMADE JSON Lines, which OPTIMADE servers publish).
        passed_only: Leave out what fails a check.

    Raises:
        ValueError: If the source holds nothing or the destination is of an unknown kind.
    """
    from mattergen_lite.library.exchange import export

    with nullcontext() if "://" in destination else claimed_file(Path(destination)):
        return export(source, destination, passed_only=passed_only)


@checked
def library_import(
    provider: str,
    out: Path,
    /,
    *,
    filter: str | None = None,
    chemical_system: str | None = None,
    field: Sequence[str] = (),
    limit: Count | None = None,
) -> "Exchanged":
    """Fetch structures from a public database into a table for score, --reference and data prepare.

    Args:
        provider: Address of an OPTIMADE provider, such as https://alexandria.icams.rub.de/pbe, or
            materials-project, which asks for a key in the environment variable MP_API_KEY.
        out: The parquet table to write.
        filter: In OPTIMADE's filter language, such as 'elements HAS "Li" AND nelements<=3'.
        chemical_system: Exactly these elements, such as Li-P-S.
        field: Numeric property to take along, such as _alexandria_hull_distance; repeat for
            several.
        limit: At most so many structures.

    Raises:
        ValueError: If the request makes no sense, the provider fails or finds nothing.
    """
    from mattergen_lite.library.exchange import fetch

    with claimed_file(out):
        return fetch(
            provider,
            out,
            filter_text=filter or "",
            chemical_system=chemical_system,
            fields=field,
            limit=limit,
        )
