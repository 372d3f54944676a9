"""What the template model learns from: sequences of known crystals, losses and batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.templates.network import TemplateNetwork
from mattergen_lite.templates.tokens import (
    UNKNOWN,
    PositionRules,
    SequenceWriter,
    Template,
    TemplateClass,
    TemplateConditions,
    TokenBatch,
    pack,
)
from mattergen_lite.tensors.shapes import Float, Int

# Shares of the crystals that are shown with all of their elements, and with none of them; of the
# others each class shows its element or not, by a toss of a coin.
SHARE_SHOWN, SHARE_HIDDEN = 0.35, 0.45
SHARE_SIZED, SHARE_GROUPED, SHARE_OF_ENERGIES = 0.5, 0.3, 0.8  # of conditions that are told


def canonical_template(
    space_group: int, positions: Int[np.ndarray, "O"], elements: Int[np.ndarray, "O"]
) -> Template:
    """The template of a crystal in the form of its protostructure.

    `positions` numbers the Wyckoff position, `elements` has the atomic number of each orbit.
    """
    table = wyckoff_positions(space_group)
    names = np.unique(elements).tolist()

    def classes(exchange: np.ndarray) -> list[tuple[tuple[int, ...], int]]:
        return sorted(
            (tuple(np.sort(exchange[positions[elements == name]]).tolist()), name) for name in names
        )

    chosen = min(map(classes, table.exchanges))
    sizes = [int(table.multiplicity[list(sites)].sum()) for sites, _ in chosen]
    return Template(
        space_group=space_group,
        classes=tuple(
            TemplateClass(positions=sites, size=size, element=name)
            for (sites, name), size in zip(chosen, sizes, strict=True)
        ),
    )


def write_tokens(template: Template, shown: Sequence[bool]) -> SequenceWriter:
    """Write a template as tokens with their targets; some classes show their element."""
    writer, classes = SequenceWriter(), template.classes
    for index in range(len(classes) + 1):
        placed = classes[index - 1] if index else None
        is_shown = bool(index) and shown[index - 1]
        following = classes[index] if index < len(classes) else None
        writer.add(
            kind=min(index, 1),
            size=placed.size if placed else 0,
            element=placed.element if placed and is_shown else UNKNOWN,
            next_size=following.size if following else 0,
            next_element=following.element if following and shown[index] else -1,
            next_group=-1 if following else template.space_group,
        )
    rules = PositionRules(template.space_group)
    steps = [(index, site) for index, orbits in enumerate(classes) for site in orbits.positions]
    previous, remaining, current = None, classes[0].size, 0
    for index, site in steps:
        if index != current:
            current, remaining, rules.lowest = index, classes[index].size, 0
        writer.add(
            possible=rules.possible(remaining),
            **_orbit_token(template, shown, previous, current, remaining),
            next_position=site,
        )
        rules.take(site)
        remaining -= int(rules.multiplicity[site])
        previous = site
    return writer


def _orbit_token(
    template: Template, shown: Sequence[bool], previous: int | None, current: int, remaining: int
) -> dict[str, int]:
    """What a token of the third part says; the first of them is that of the space group."""
    return {
        "kind": 2 if previous is None else 3,
        "space_group": template.space_group,
        "position": 0 if previous is None else previous,
        "element": template.classes[current].element if shown[current] else UNKNOWN,
        "remaining": remaining,
        "last": current,
    }


@dataclass(frozen=True, kw_only=True)
class TemplateLosses:
    """Negative log likelihood of B templates by part, in nats a template."""

    size: Float[Tensor, ""]
    element: Float[Tensor, ""]
    group: Float[Tensor, ""]
    position: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of the parts."""
        return self.size + self.element + self.group + self.position


def losses(
    net: TemplateNetwork, tokens: TokenBatch, conditions: TemplateConditions
) -> TemplateLosses:
    """Negative log likelihood of sequences."""
    hidden, count = net(tokens, conditions), len(tokens)

    def nll(logits: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(logits, wanted, reduction="sum") / count

    sized, named = tokens.next_size >= 0, tokens.next_element >= 0
    grouped, placed = tokens.next_group >= 0, tokens.next_position >= 0
    positions = net.position_logits(hidden[placed], tokens.space_group[placed])
    return TemplateLosses(
        size=nll(net.size_logits(hidden[sized]), tokens.next_size[sized]),
        element=nll(
            net.element_logits(hidden[named], tokens.next_size[named]), tokens.next_element[named]
        ),
        group=nll(net.group_logits(hidden[grouped]), tokens.next_group[grouped]),
        position=nll(
            positions.masked_fill(~tokens.possible[placed], -torch.inf),
            tokens.next_position[placed],
        ),
    )


def shuffled(template: Template, rng: np.random.Generator) -> Template:
    """The classes by rising number of atoms, those of equal number in any order."""
    order = sorted(template.classes, key=lambda item: (item.size, rng.random()))
    return replace(template, classes=tuple(order))


def training_batch(
    templates: Sequence[Template], energies: Float[np.ndarray, "B"], rng: np.random.Generator
) -> tuple[TokenBatch, TemplateConditions]:
    """Sequences of templates, of which some elements and conditions are hidden at random."""
    writers = []
    for template in templates:
        count, toss = len(template.classes), rng.random()
        if toss < SHARE_SHOWN:
            shown = [True] * count
        elif toss < SHARE_SHOWN + SHARE_HIDDEN:
            shown = [False] * count
        else:
            shown = (rng.random(count) < 0.5).tolist()
        writers.append(write_tokens(shuffled(template, rng), shown))
    told = rng.random((3, len(templates))) < [[SHARE_SIZED], [SHARE_GROUPED], [SHARE_OF_ENERGIES]]
    conditions = TemplateConditions(
        num_atoms=torch.tensor([example.num_atoms for example in templates])
        * torch.from_numpy(told[0]),
        space_group=torch.tensor([example.space_group for example in templates])
        * torch.from_numpy(told[1]),
        e_above_hull=torch.from_numpy(np.where(told[2], energies, np.nan)).float(),
    )
    return pack(writers), conditions


def batches_of_like_length(
    lengths: Int[np.ndarray, "M"], size: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "B"]]:
    """All rows once in random batches of sequences of about one length."""
    order = np.argsort(lengths + 3 * rng.random(len(lengths)))
    batches = np.array_split(order, max(1, len(order) // size))
    for index in rng.permutation(len(batches)):
        yield batches[index]
