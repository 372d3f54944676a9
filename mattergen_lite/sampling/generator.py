"""Generators: a request, read and checked, with the model that makes samples for it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.model import CrystalDiffusion, model_provenance, weights_hash
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions, is_mixed
from mattergen_lite.probe.guidance import steering
from mattergen_lite.probe.predictors import Predictor, asked_for, load_predictors
from mattergen_lite.probe.probe import Probe
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import PropertyTarget, parse_targets
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.sampling.substitution import Substitution


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A loaded model and everything that was asked of it."""

    model: CrystalDiffusion
    folder: Path  # of the model
    options: SamplerOptions
    target: Target
    asked: tuple[PropertyTarget, ...]  # of the model and of probes
    predictors: Sequence[Predictor]  # that measure what was asked

    def records(
        self, indices: Sequence[int], num_at_once: int, *, seed: int
    ) -> Iterator[list[StructureRecord]]:
        """Generate the samples of these numbers, `num_at_once` at a time.

        Raises:
            ValueError: If the model cannot fulfil the constraints; nothing has been sampled then.
        """
        for start in range(0, max(len(indices), 1), max(num_at_once, 1)):
            part = indices[start : start + num_at_once]
            samples = sample(self.model, part, seed=seed, options=self.options, target=self.target)
            yield samples.records(part, self.predictors)

    @property
    def space_groups(self) -> frozenset[int] | None:
        """Space groups that samples may have; None where none were asked for."""
        return self.target.constraints.space_groups

    def provenance(self) -> dict[str, object]:
        """What a record needs to name the model."""
        return model_provenance(self.model, self.folder)


def open_generator(
    request: Request, options: SamplerOptions, device: torch.device
) -> Generator | Substitution:
    """Load the model, if there is one, and work out what is asked of it.

    Raises:
        ValueError: If a file is missing or a request does not make sense.
    """
    constraints = parse_constraints(request)
    if request.propose != "model":
        _refuse_what_needs_a_model(request, options)
        return Substitution(
            constraints=constraints,
            of_ions=request.propose == "ion-exchange",
            template_bias=options.template_bias,
        )
    folder = find_checkpoint(request.checkpoint)
    model = CrystalDiffusion.load(folder, device)
    model.mixed_precision = is_mixed(options.precision, on_gpu=device.type == "cuda")
    probes = [Probe.load(path, weights_hash(folder)) for path in request.probe]
    reader = find_checkpoint(request.measured_by or request.checkpoint)
    learned = [
        *(Predictor(reader=probe, model=model) for probe in probes),
        *load_predictors(reader, model if reader == folder else None, device),
    ]
    probed = [probe.definition for probe in probes]
    targets = parse_targets(request.condition, request.guidance, [*probed, *model.properties])
    guided = tuple(target for target in targets if target.definition not in probed)
    return Generator(
        model=model,
        folder=folder,
        options=options,
        target=Target(
            properties=guided,
            auxiliary_targets=stable(model, targets, request.stability_guidance),
            constraints=constraints,
            steering=steering(model, probes, targets),
        ),
        asked=targets,
        predictors=asked_for(learned, targets),
    )


def _refuse_what_needs_a_model(request: Request, options: SamplerOptions) -> None:
    """Refuse what substitution into known crystals cannot do."""
    needed = {
        "condition": request.condition,
        "probe": request.probe,
        "seed-structure": request.seed_structure,
        "space-group none": request.space_group == "none",
        f"frameworks {options.frameworks}": options.frameworks not in (None, "known"),
    }
    asked = [name for name, value in needed.items() if value]
    if asked:
        raise ValueError(
            f"propose {request.propose}: {asked[0]} needs a model; leave one of them out"
        )


def stable(
    model: CrystalDiffusion, targets: Sequence[PropertyTarget], guidance: float
) -> tuple[PropertyTarget, ...]:
    """The auxiliary target that every sample is on the convex hull, unless its energy is a target.

    Raises:
        ValueError: If the weight is negative or no number.
    """
    if not 0 <= guidance < math.inf:
        raise ValueError(f"stability-guidance is {guidance}: expected 0 or more")
    named = {target.definition.name for target in targets}
    known = [prop for prop in model.properties if prop.name == "e_above_hull"]
    if guidance == 0 or not known or "e_above_hull" in named:
        return ()
    return (PropertyTarget(definition=known[0], low=0.0, high=0.0, guidance=guidance),)
