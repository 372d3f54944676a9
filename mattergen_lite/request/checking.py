"""Refuses requests that make no sense, before any weights are loaded."""

from mattergen_lite.hub import find_checkpoint, is_hub_name, read_config
from mattergen_lite.options.request import Request
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import check_texts
from mattergen_lite.request.values import known_property, parse_values


def check_request(request: Request) -> Constraints:
    """Read the constraints of a request; refuse texts that cannot be read or contradict each other.

    What only the weights can tell, such as elements, is refused later.

    Raises:
        ValueError: If there is such a text, or the seed structure or the model does not exist.
    """
    constraints = check_texts(request)
    # A model of the hub is not fetched before the rest is right.
    if request.propose == "model" and not is_hub_name(request.checkpoint):
        _check_model(request, constraints)
    return constraints


def _check_model(request: Request, constraints: Constraints) -> None:
    """Refuse a missing model, sizes that it does not make, values its properties cannot have."""
    config = read_config(find_checkpoint(request.checkpoint))
    if request.seed_structure is None:  # which takes room, too
        constraints.atom_counts(config.max_atoms)
    properties = config.properties
    for asked in request.condition:
        if not request.probe or asked.name in {prop.name for prop in properties}:
            parse_values(known_property(asked.name, properties), asked)
