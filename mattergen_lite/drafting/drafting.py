"""What the drafts of constraints are drawn from."""

from dataclasses import replace

from torch import Tensor

from mattergen_lite.config import ModelConfig
from mattergen_lite.drafting.draft import DraftSource
from mattergen_lite.drafting.free import FreeDrafting
from mattergen_lite.drafting.generated import GeneratedDrafting, MixedDrafting
from mattergen_lite.drafting.hosts import HostDrafting
from mattergen_lite.drafting.templates import TemplateDrafting
from mattergen_lite.options.sampler import Frameworks
from mattergen_lite.request.host import Host
from mattergen_lite.request.protocol import Constraints
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.shapes import Bool

# Atoms of a sample of which nothing says how many: three quarters of the known stable crystals have
# at most so many, and twice as many of their samples are near the hull as of larger ones.
USUAL_ATOMS = 20


def draft_source(
    constraints: Constraints,
    model: ModelConfig,
    template_bias: float = 0.0,
    targets: tuple[PropertyTarget, ...] = (),
    frameworks: Frameworks = "known",
    seen: Bool[Tensor, "Z"] | None = None,
) -> DraftSource:
    """Find what drafts of constraints can be drawn from, within the sizes that a model makes.

    Args:
        constraints: What is asked for exactly.
        model: What sizes there are.
        template_bias: Preference for templates that have yielded more (`SamplerOptions`).
        targets: Properties that are asked for: templates of known crystals which are close to them
            are preferred.
        frameworks: Whose templates are taken, of those of known crystals and generated ones.
        seen: Elements that the model has learnt, which generated templates name; None = all.

    Raises:
        ValueError: If nothing that the model can make is what is asked for.
    """
    counts = _counts(constraints, model)
    for kind, is_asked in (
        (HostDrafting, constraints.find(Host)),
        (FreeDrafting, constraints.is_free),
    ):
        if is_asked:
            if frameworks in ("new", "generated"):
                raise ValueError(
                    f"frameworks {frameworks}: {constraints} takes no template; leave one out"
                )
            return kind.of(constraints, counts, model)
    if frameworks in ("new", "generated"):
        generated = GeneratedDrafting.of(constraints, counts, model)
        return replace(generated, only_new=frameworks == "new", seen=seen)
    known = TemplateDrafting.of(constraints, counts, model)
    known = replace(known, bias=template_bias, targets=targets)
    if frameworks == "known":
        return known
    new = replace(GeneratedDrafting.of(constraints, counts, model), only_new=True, seen=seen)
    return MixedDrafting(known=known, new=new)


def _counts(constraints: Constraints, model: ModelConfig) -> list[int]:
    """Numbers of atoms: what is asked for, or else usual sizes that training has seen.

    Raises:
        ValueError: If no number fits everything that is asked for.
    """
    counts = constraints.atom_counts(model.max_atoms)
    if constraints.is_sized:
        return counts
    seen = [n for n, crystals in enumerate(model.atom_count_histogram, start=1) if crystals]
    known = [n for n in counts if n in seen] or counts
    if constraints.space_groups is not None:
        return known
    return [n for n in known if n <= USUAL_ATOMS] or known
