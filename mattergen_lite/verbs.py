"""What the package does, as Python functions: the command line registers these very functions.

Slow imports happen inside them, so that `--help` stays instant.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mattergen_lite.curation import DatasetInfo, PrepareReport
    from mattergen_lite.results import Judged

DEFAULT_CHECKPOINT = "mp_20"


def generate(
    *,
    out: Path,
    num_samples: int = 16,
    checkpoint: str = DEFAULT_CHECKPOINT,
    condition: Sequence[str] = (),
    guidance: Sequence[str] = (),
    elements: str | None = None,
    chemical_system: str | None = None,
    exclude: str | None = None,
    formula: str | None = None,
    formula_units: str | None = None,
    num_atoms: str | None = None,
    seed_structure: Path | None = None,
    fix_sites: str | None = None,
    fix_lattice: bool = False,
    vacancies: str | None = None,
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
        condition: Target such as band_gap=2.0 or space_group=225, a range such as
            band_gap=1.5..2.5, or a bound such as 'bulk_modulus>300' or 'e_above_hull<0.05' (in
            quotes, for the shell); repeat for several. Each sample draws its value from a range.
        guidance: Weight of the targets: 0 ignores them, 1 (default) samples the conditional model,
            2 insists; band_gap=3 sets that of one property. Repeat for several.
        elements: Elements that may occur, such as Li,P,S; no sample contains any other.
        chemical_system: Elements of which every sample has each and no other, such as Li-P-S.
        exclude: Elements that must not occur, such as Pb,Cd or toxic,radioactive,scarce.
        formula: Composition of every sample, such as LiFePO4 (crystal structure prediction).
        formula_units: How many formula units a cell has, such as 2 or 1..4; default what fits.
        num_atoms: Atoms per primitive cell, such as 8 or 4..12.
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
    from mattergen_lite.constraints import parse_constraints
    from mattergen_lite.host import parse_host
    from mattergen_lite.io import StructureRecord, to_structures
    from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device, weights_hash
    from mattergen_lite.results import JudgeOptions, Stopwatch, check_folder, judge_and_write
    from mattergen_lite.sampling import SamplerOptions, Target, sample
    from mattergen_lite.targets import parse_targets

    check_folder(out, overwrite)
    judging = JudgeOptions(potential=stability, num_workers=num_workers)
    options = SamplerOptions(solver=solver, steps=steps, churn=churn, batch_size=batch_size)
    constraints = parse_constraints(
        elements=elements,
        chemical_system=chemical_system,
        exclude=exclude,
        formula=formula,
        formula_units=formula_units,
        num_atoms=num_atoms,
        host=parse_host(seed_structure, fix_sites, fix_lattice, vacancies),
    )
    folder = find_checkpoint(checkpoint)
    watch = Stopwatch()
    with watch.stage("loading"):
        model = CrystalDiffusion.load(folder, pick_device(device))
    properties = parse_targets(condition, guidance, model.properties)
    target = Target(properties=properties, constraints=constraints)
    indices = range(first_sample, first_sample + num_samples)
    with watch.stage("sampling"):
        samples = sample(model, indices, seed=seed, options=options, target=target)
    records = [
        StructureRecord(f"{i:06d}", structure, targets=asked)
        for i, structure, asked in zip(
            indices, to_structures(samples.crystals), samples.targets, strict=True
        )
    ]
    provenance = {
        "verb": "generate",
        "arguments": arguments,
        "weights_sha256": weights_hash(folder),
        "data_sha256": model.config.data_sha256,
        "model": model.config.model_dump(mode="json"),
    }
    return judge_and_write(records, out / "candidates.csv", watch, provenance, judging)


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
