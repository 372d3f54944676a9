"""The command `finetune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattergen_lite.commands.workspace import TABLES, check_source, cores
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.checks import NameOrPath, Workers
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.options.flat import flat
from mattergen_lite.options.request import DEFAULT_CHECKPOINT

if TYPE_CHECKING:
    from mattergen_lite.training.finetuning import Finetuned


@flat
def finetune(
    source: NameOrPath,
    /,
    *,
    property: str,
    out: Path,
    checkpoint: NameOrPath = DEFAULT_CHECKPOINT,
    kind: Literal["real", "category"] = "real",
    log: bool = False,
    unit: str = "",
    options: FinetuneOptions,
    num_workers: Workers | None = None,
) -> "Finetuned":
    """Teach a model a property of your own; the same command continues after a kill.

    Writes `<out>/model`, which `generate --checkpoint <out>/model --condition <property>=...`
    takes, and which can be taught a further property.

    Args:
        source: csv with a column cif, or with a column file that names structure files beside it;
            a folder with such a csv; or a table that `data prepare` wrote.
        property: Column of the values; empty where unknown. Its unit is yours.
        out: Folder of the run.
        checkpoint: Name of a shipped model, or path of a model folder, to start from.
        kind: real numbers, or categories numbered from 1.
        log: Learn the logarithm: for positive values that span decades.
        unit: Of the values, for messages only.
        num_workers: Processes that read structures; default all cores.

    Raises:
        ValueError: If the source, the column or an option is unusable; nothing is written then.
    """
    from mattergen_lite.hub import find_checkpoint

    check_source(Path(source), out, tables=TABLES)
    base = find_checkpoint(checkpoint)
    from mattergen_lite.config import PropertyConfig
    from mattergen_lite.data.labels import read_labelled
    from mattergen_lite.training.finetuning import finetune as run

    with claimed(out):
        crystals = read_labelled(
            source,
            PropertyConfig(name=property, kind=kind, log=log, unit=unit),
            keep=out / "data",
            seed=options.seed,
            num_workers=cores(num_workers),
        )
        return run(base, crystals, out, options)
