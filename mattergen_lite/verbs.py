"""What the package does, as Python functions: the command line registers these very functions.

Slow imports happen inside them, so that `--help` stays instant.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mattergen_lite.curation import DatasetInfo, PrepareReport
    from mattergen_lite.finetuning import Finetuned
    from mattergen_lite.probe import Probe
    from mattergen_lite.results import Judged

DEFAULT_CHECKPOINT = "mp_20"


def generate(
    *,
    out: Path,
    num_samples: int = 16,
    checkpoint: str = DEFAULT_CHECKPOINT,
    condition: Sequence[str] = (),
    guidance: float = 1.0,
    probe: Sequence[Path] = (),
    elements: str | None = None,
    num_atoms: str | None = None,
    seed: int = 0,
    first_sample: int = 0,
    steps: int = 50,
    solver: Literal["multistep", "heun"] = "multistep",
    churn: float = 4.0,
    batch_size: int = 64,
    device: str = "auto",
    stability: Literal["chgnet", "7net-l3i5"] | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Generate crystals and judge each of them.

    Writes candidates.csv (one row a sample), cifs/ (symmetrised), structures.extxyz, summary.json
    (shares and their protocol) and run.json, which has all it takes to make any one sample again.

    Args:
        out: Folder for the results.
        num_samples: How many crystals.
        checkpoint: Name of a shipped model, or path of a model folder.
        condition: Target such as band_gap=2.0 or space_group=225; repeat for several.
        guidance: Weight of the targets: 0 ignores them, 1 samples the conditional model.
        probe: Folder that `steer` wrote: steers towards the condition on its property, and adds the
            columns target_, measured_ (by the probe) and error_ (of the probe on held-out crystals,
            mean absolute) to the table; repeat for several.
        elements: Elements that may occur, such as Li,P,S; no sample contains any other.
        num_atoms: Atoms per primitive cell, such as 8 or 4..12.
        seed: Same seed, same crystals, whatever the batch size.
        first_sample: Number of the first sample; with num_samples 1, makes one sample again.
        steps: Solver steps; more is slower and better.
        solver: multistep takes one network call a step, heun two.
        churn: Noise put back at each step: 0 is deterministic, 1 the plain reverse diffusion.
        batch_size: Crystals denoised together.
        device: cpu, cuda, cuda:1, or auto.
        stability: Potential that decides after CHGNet has relaxed each crystal; writes relaxed/
            and the energy above hull with its uncertainty. Seconds a crystal; default not judged.
        num_workers: Processes that judge; default all cores.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    arguments = dict(locals())
    from mattergen_lite.elements import element_mask
    from mattergen_lite.io import StructureRecord, to_structures
    from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device, weights_hash
    from mattergen_lite.probe import Probe, measured_columns, split_conditions, steering
    from mattergen_lite.properties import parse_conditions
    from mattergen_lite.results import JudgeOptions, Stopwatch, check_folder, judge_and_write
    from mattergen_lite.sampling import SamplerOptions, Target, parse_range, sample

    check_folder(out, overwrite)
    judging = JudgeOptions(potential=stability, num_workers=num_workers)
    options = SamplerOptions(solver=solver, steps=steps, churn=churn, batch_size=batch_size)
    folder = find_checkpoint(checkpoint)
    watch = Stopwatch()
    with watch.stage("loading"):
        model = CrystalDiffusion.load(folder, pick_device(device))
        probes = [Probe.load(path, weights_hash(folder)) for path in probe]
    own, others = split_conditions(condition, probes)
    target = Target(
        conditions=parse_conditions(others, model.properties),
        guidance=guidance,
        steering=steering(model, own, guidance),
        allowed=None if elements is None else model.allowed(element_mask(elements.split(","))),
        num_atoms=parse_range(num_atoms),
    )
    indices = range(first_sample, first_sample + num_samples)
    with watch.stage("sampling"):
        crystals = sample(model, indices, seed=seed, options=options, target=target)
    with watch.stage("measuring"):
        columns = measured_columns(model, own, crystals)
    structures = to_structures(crystals)
    records = [StructureRecord(f"{i:06d}", s) for i, s in zip(indices, structures, strict=True)]
    provenance = {
        "verb": "generate",
        "arguments": arguments,
        "weights_sha256": weights_hash(folder),
        "data_sha256": model.config.data_sha256,
        "model": model.config.model_dump(mode="json"),
    }
    return judge_and_write(records, out / "candidates.csv", watch, provenance, judging, columns)


def score(
    source: Path,
    /,
    *,
    out: Path,
    stability: Literal["chgnet", "7net-l3i5"] | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Judge crystals from any source: geometry, symmetry, charge, novelty, credibility.

    Writes scores.csv (one row a crystal, with its error if it has one), cifs/ (symmetrised),
    structures.extxyz, summary.json (shares and their protocol) and run.json.

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column,
            pymatgen JSON, or the folder of an earlier run.
        out: Folder for the results.
        stability: Potential that decides after CHGNet has relaxed each crystal; writes relaxed/
            and the energy above hull with its uncertainty. Seconds a crystal; default not judged.
        num_workers: Processes that judge; default all cores.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If the source holds no structures; nothing is written then.
    """
    arguments = dict(locals())
    from mattergen_lite.io import read_structures
    from mattergen_lite.results import (
        FRAMES,
        RECORD,
        JudgeOptions,
        Stopwatch,
        check_folder,
        judge_and_write,
    )

    check_folder(out, overwrite)
    judging = JudgeOptions(potential=stability, num_workers=num_workers)
    if (source / RECORD).exists():  # a run has every crystal twice: as sampled and symmetrised
        source = source / FRAMES
    watch = Stopwatch()
    with watch.stage("reading"):
        records = list(read_structures(source))
    provenance = {"verb": "score", "arguments": arguments}
    return judge_and_write(records, out / "scores.csv", watch, provenance, judging)


def train(
    *settings: str,
    max_time: str | None = None,
) -> Path:
    """Train a model, or continue the run that its run_dir already holds.

    Args:
        settings: Configuration files, merged left to right, then overrides such as
            trainer.devices=4 or run_dir=runs/a. A file is looked for on disk, then among the
            shipped configurations.
        max_time: DD:HH:MM:SS after which this launch stops; the same command then continues.

    Returns:
        The exported model folder, which `generate --checkpoint` takes.

    Raises:
        ValueError: For an unknown key, a bad value or an unusable dataset.
    """
    from mattergen_lite.config import RunConfig
    from mattergen_lite.training import train as run

    files = [_configuration(text) for text in settings if "=" not in text]
    overrides = [text for text in settings if "=" in text]
    if max_time is not None:
        overrides.append(f"trainer.max_time='{max_time}'")
    return run(RunConfig.load(files, overrides))


def _configuration(text: str) -> Path:
    """A configuration file on disk or, failing that, the shipped one of that name."""
    from mattergen_lite.config import shipped

    path = Path(text)
    return path if path.exists() else shipped("configs") / path.name


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
    steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    base_share: float = 0.5,
    patience: int = 6,
    max_time: str | None = None,
    seed: int = 0,
    device: str = "auto",
    num_workers: int | None = None,
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
    from mattergen_lite.finetuning import FinetuneOptions
    from mattergen_lite.finetuning import finetune as run
    from mattergen_lite.labels import read_labelled
    from mattergen_lite.model import find_checkpoint, read_config
    from mattergen_lite.results import available_cores

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
    base = find_checkpoint(checkpoint)
    crystals = read_labelled(
        source,
        PropertyConfig(name=property, kind=kind, log=log, unit=unit),
        keep=out / "data",
        max_atoms=read_config(base).max_atoms,
        seed=seed,
        num_workers=num_workers or available_cores(),
    )
    return run(base, crystals, out, options)


def steer(
    source: str,
    /,
    *,
    property: str,
    out: Path,
    checkpoint: str = DEFAULT_CHECKPOINT,
    log: bool = False,
    unit: str = "",
    seed: int = 0,
    device: str = "auto",
    num_workers: int | None = None,
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
    from mattergen_lite.labels import read_labelled
    from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device, weights_hash
    from mattergen_lite.probe import CONFIG, Labels, ModelIdentity, fit
    from mattergen_lite.results import available_cores

    if (out / CONFIG).exists() and not overwrite:
        raise ValueError(f"{out} holds a probe: choose another folder or pass --overwrite")
    folder = find_checkpoint(checkpoint)
    model = CrystalDiffusion.load(folder, pick_device(device))
    crystals = read_labelled(
        source,
        PropertyConfig(name=property, log=log, unit=unit),
        keep=out / "data",
        max_atoms=model.config.max_atoms,
        seed=seed,
        num_workers=num_workers or available_cores(),
    )
    identity = ModelIdentity(checkpoint=checkpoint, weights_sha256=weights_hash(folder))
    labels = Labels.from_table(crystals.labelled_outside("test"), property)
    fitted = fit(model, labels, crystals.prop, identity, seed)
    fitted.save(out)
    return fitted


def data_prepare(
    source: Path,
    out: Path,
    /,
    *,
    max_atoms: int = 20,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    num_workers: int | None = None,
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
    from mattergen_lite.curation import prepare
    from mattergen_lite.results import available_cores

    return prepare(
        source,
        out,
        num_workers=num_workers or available_cores(),
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        max_atoms=max_atoms,
    )


def data_info(table: str = "embedded", /, *, png: Path | None = None) -> "DatasetInfo":
    """Summarise a crystal table: counts, sizes, elements, property coverage.

    Args:
        table: A parquet table, or the one inside the package.
        png: Also draw the summary into this file.

    Raises:
        ValueError: If the table is missing or is not a crystal table.
    """
    from mattergen_lite.curation import describe

    info = describe(table)
    if png is not None:
        info.write_png(png)
    return info
