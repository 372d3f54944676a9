"""Chooses the sources of templates that constraints allow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from mattergen_lite.chemistry.elements import element_mask
from mattergen_lite.config import ModelConfig
from mattergen_lite.data.table import NEW_FRAMEWORKS
from mattergen_lite.options.sampler import Frameworks
from mattergen_lite.partial_crystals.compositions import CompositionSampler
from mattergen_lite.partial_crystals.free import FreeSampler
from mattergen_lite.partial_crystals.generated import GeneratedTemplateSampler, MixedSampler
from mattergen_lite.partial_crystals.hosts import HostSampler
from mattergen_lite.partial_crystals.known import TemplateSampler
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystalSampler
from mattergen_lite.request.base import EVERY_ELEMENT, Constraints
from mattergen_lite.request.host import Host
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.tensors.shapes import Bool

# Atoms of a sample of which nothing says how many: three quarters of the known stable crystals have
# at most so many, and twice as many of their samples are near the hull as of larger ones.
USUAL_ATOMS = 20
# Shares of the samples by where their templates come from: known crystals, the crystals of this
# project whose frameworks are new (`NEW_FRAMEWORKS`), and the template model.
SHARES: Mapping[Frameworks, Mapping[str, float]] = {
    "known": {"known": 1.0},
    "drawn": {"drawn": 1.0},
    "new": {"drawn": 0.5, "collected": 0.5},
    "any": {"known": 0.6, "collected": 0.35, "drawn": 0.05},
}


def partial_crystal_sampler(
    constraints: Constraints,
    model: ModelConfig,
    template_bias: float = 0.0,
    targets: tuple[PropertyTarget, ...] = (),
    frameworks: Frameworks | None = None,
    seen: Bool[Tensor, "Z"] | None = None,
) -> PartialCrystalSampler:
    """Choose the sampler of partial crystals for constraints, within the sizes of a model.

    Args:
        template_bias: Preference for templates that have yielded more (`SamplerOptions`).
        targets: Properties: templates of known crystals that are close to them are preferred.
        frameworks: Whose templates are taken (`SHARES`); None is any, and known where a formula or
            a property is asked for, which choose among the templates of known crystals.
        seen: Elements that the model has learnt, which generated templates name; None = all.

    Raises:
        ValueError: If the model can make nothing that fulfils the constraints.
    """
    counts = _counts(constraints, model)
    frameworks = frameworks or ("known" if constraints.is_complete or targets else "any")
    for kind, is_asked in (
        (HostSampler, constraints.find(Host)),
        (FreeSampler, constraints.is_free),
    ):
        if is_asked:
            if frameworks in ("new", "drawn"):
                raise ValueError(
                    f"frameworks {frameworks}: {constraints} takes no template; leave one out"
                )
            return _selective(kind.of(constraints, counts, model), constraints, seen)

    def known() -> PartialCrystalSampler:
        source = TemplateSampler.of(constraints, counts, model)
        return replace(source, bias=template_bias, targets=targets)

    def collected() -> PartialCrystalSampler:
        source = TemplateSampler.of(constraints, counts, model, NEW_FRAMEWORKS)
        if not source.prescribed:  # elements on single orbits would make another framework
            raise ValueError(f"{constraints}: no collected new framework has room for that")
        return replace(source, bias=template_bias)

    def drawn() -> PartialCrystalSampler:
        return replace(GeneratedTemplateSampler.of(constraints, counts, model), seen=seen)

    sources = {"known": known, "collected": collected, "drawn": drawn}
    mixed = _mixture([(sources[name], share) for name, share in SHARES[frameworks].items()])
    return _selective(mixed, constraints, seen)


def _selective(
    source: PartialCrystalSampler, constraints: Constraints, seen: Bool[Tensor, "Z"] | None
) -> PartialCrystalSampler:
    """Draw whole compositions, where a constraint says which ones it accepts."""
    if not constraints.is_selective:
        return source
    seen = element_mask(EVERY_ELEMENT) if seen is None else seen
    return CompositionSampler(source=source, constraints=constraints, seen=seen)


def _mixture(
    parts: Sequence[tuple[Callable[[], PartialCrystalSampler], float]],
) -> PartialCrystalSampler:
    """Open the sources that can make what is asked for, and mix them."""
    opened, refusals = [], []
    for source, share in parts:
        try:
            opened.append((source(), share))
        except ValueError as refusal:
            refusals.append(refusal)
    if not opened:
        raise refusals[0]
    if len(parts) == 1:
        return opened[0][0]
    return MixedSampler(sources=tuple(opened), refusal=next(iter(refusals), None))


def _counts(constraints: Constraints, model: ModelConfig) -> list[int]:
    """Numbers of atoms: what is asked for, or else usual sizes that training has seen."""
    counts = constraints.atom_counts(model.max_atoms)
    if constraints.is_sized:
        return counts
    seen = [n for n, crystals in enumerate(model.atom_count_histogram, start=1) if crystals]
    known = [n for n in counts if n in seen] or counts
    if constraints.space_groups is not None:
        return known
    return [n for n in known if n <= USUAL_ATOMS] or known
