"""The command `data show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattergen_lite.folders import claimed_file
from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.data.known import KnownCrystal


@flat
def data_show(
    name: str,
    /,
    *,
    out: Path | None = None,
    cell: Literal["conventional", "primitive"] = "conventional",
) -> "KnownCrystal":
    """Show a crystal of the embedded table, and write it to a file.

    Args:
        name: Its identifier, such as mp-19017, or a formula, such as LiFePO4, which stands for its
            crystal of lowest energy.
        out: File to write, whose name says the format: .cif, .vasp or POSCAR, .extxyz, .json.
        cell: The conventional standard cell, or the primitive one.

    Raises:
        ValueError: If there is no such crystal or format.
    """
    from dataclasses import replace

    from mattergen_lite.data.known import check_name, known_crystal

    if out is not None:
        check_name(out)
    crystal = known_crystal(name)
    if out is None:
        return crystal
    with claimed_file(out):
        crystal.write(out, cell)
    return replace(crystal, file=out)
