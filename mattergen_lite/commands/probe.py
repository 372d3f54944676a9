"""The command `probe fit`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import TABLES, check_source, cores
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.checks import NameOrPath, Seed, Workers
from mattergen_lite.options.flat import flat
from mattergen_lite.options.request import DEFAULT_CHECKPOINT

if TYPE_CHECKING:
    from mattergen_lite.probe.probe import Probe


@flat
def probe_fit(
    source: NameOrPath,
    /,
    *,
    property: str,
    out: Path,
    checkpoint: NameOrPath = DEFAULT_CHECKPOINT,
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
    from mattergen_lite.hub import find_checkpoint

    check_source(Path(source), out, tables=TABLES)
    folder = find_checkpoint(checkpoint)
    from mattergen_lite.config import PropertyConfig
    from mattergen_lite.data.labels import read_labelled
    from mattergen_lite.model import CrystalDiffusion, pick_device, weights_hash
    from mattergen_lite.probe.fit import Labels, fit
    from mattergen_lite.probe.probe import CONFIG, ModelIdentity
    from mattergen_lite.training.finetuning import fits

    with claimed(out):
        if (out / CONFIG).exists() and not overwrite:
            raise ValueError(f"{out} holds a probe: choose another folder, or --overwrite it")
        model = CrystalDiffusion.load(folder, pick_device(device))
        crystals = read_labelled(
            source,
            PropertyConfig(name=property, log=log, unit=unit),
            keep=out / "data",
            seed=seed,
            num_workers=cores(num_workers),
        )
        identity = ModelIdentity(checkpoint=checkpoint, weights_sha256=weights_hash(folder))
        labels = Labels.of(crystals, fits(crystals.table, model.config))
        fitted = fit(model, labels, crystals.prop, identity, seed)
        fitted.save(out)
        return fitted
