"""The command `data elements`."""

from typing import TYPE_CHECKING

from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.elements import ElementGroups


@flat
def data_elements() -> "ElementGroups":
    """List the groups of elements that --elements and --exclude take, such as toxic or scarce."""
    from mattergen_lite.elements import ElementGroups

    return ElementGroups()
