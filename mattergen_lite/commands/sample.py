"""The function `sample`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mattergen_lite.options.checks import Count, NameOrPath, Number, Seed
from mattergen_lite.options.flat import flat
from mattergen_lite.options.request import DEFAULT_CHECKPOINT, Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.request.checking import check_request

if TYPE_CHECKING:
    from pymatgen.core import Structure


@flat
def sample(
    model: NameOrPath = DEFAULT_CHECKPOINT,
    /,
    *,
    num_samples: Count = 16,
    seed: Seed = 0,
    first_sample: Number = 0,
    request: Request,
    sampler: SamplerOptions,
    device: str = "auto",
) -> "list[Structure]":
    """Sample crystals without judging them; writes nothing.

    The sample of a number is the one that `generate` makes with the same seed and options.

    Args:
        model: Name of a shipped model, or path of a model folder.
        num_samples: How many crystals.
        seed: Same seed, same crystals, whatever the batch size.
        first_sample: Number of the first sample.
        device: cpu, cuda, cuda:1, or auto.

    Returns:
        The crystals, in the order of their numbers. Each has its number as "name" in `properties`,
        by which `judge` calls it, and under "targets" what it was asked to be.

    Raises:
        ValueError: If an argument does not make sense.
    """
    check_request(request)
    from mattergen_lite.model import pick_device
    from mattergen_lite.sampling.generator import open_generator

    if request.checkpoint not in (DEFAULT_CHECKPOINT, model):
        raise ValueError(f"model {model} and checkpoint {request.checkpoint}: expected one of them")
    asked = replace(request, checkpoint=model)
    generator = open_generator(asked, sampler, pick_device(device))
    numbers = range(first_sample, first_sample + num_samples)
    (records,) = generator.records(numbers, num_samples, seed=seed)
    for record in records:
        record.structure.properties = {"name": record.name, "targets": record.targets}
    return [record.structure for record in records]
