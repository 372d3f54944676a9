"""Samples built into a host: its fixed sites under their own symmetry, and orbits to be found.

Atoms to place take Wyckoff positions of the group of the fixed sites: those that known crystals of
the group have, and the general one. Where none add up to their number, every atom is an orbit.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mattergen_lite.config import ModelConfig
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystal, PartialCrystalSampler
from mattergen_lite.partial_crystals.placement import place_on_orbits
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.host import CellChange, Host
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED
from mattergen_lite.symmetry.orbits import (
    Orbits,
    find_setting,
    orbits_in_setting,
    p1_orbits,
)
from mattergen_lite.symmetry.space_groups import space_group

_MIN_DISTANCE = 0.7  # Å; a position without freedom nearer than that to a fixed atom is taken
_ELEMENT_TRIES = 100  # sets of positions tried for the elements that must occur
_TRIES = 2000  # random sets of positions looked at for one whose multiplicities add up


@dataclass(frozen=True, kw_only=True)
class Position:
    """A Wyckoff position that atoms can be placed on."""

    frac_coords: tuple[float, float, float]
    operations: tuple[int, ...]
    is_free: bool  # whether it has a free coordinate, so that several orbits can be on it


@dataclass(frozen=True, kw_only=True)
class HostSampler(PartialCrystalSampler):
    """Partial crystals of samples around the fixed sites of one host."""

    constraints: Constraints
    host: Host
    framework: Orbits  # of the fixed sites, in the primitive cell of their group
    change: CellChange  # from the host's cell to that of the framework
    positions: tuple[Position, ...]
    placed: tuple[int, ...]  # possible numbers of atoms to place in the primitive cell
    max_orbits: int

    @classmethod
    def of(
        cls, constraints: Constraints, counts: Sequence[int], model: ModelConfig
    ) -> PartialCrystalSampler:
        """Find the orbits that can be added to the fixed sites of a host.

        Raises:
            ValueError: If the model makes too few orbits for the host, or no positions add up to a
                number of atoms that is asked for.
        """
        host = constraints.find(Host)
        wanted = [count - len(host.numbers) for count in counts]
        options = [_without_symmetry(host)]
        if not constraints.is_free and len(host.numbers):
            options = [*_with_symmetry(host), *options]
        for framework, change in options:
            sampler = cls(
                constraints=constraints,
                host=host,
                framework=framework,
                change=change,
                positions=_positions(framework, model),
                placed=tuple(n // change.num_copies for n in wanted if n % change.num_copies == 0),
                max_orbits=model.max_orbits,
            )
            if possible := tuple(n for n in sampler.placed if sampler.can_place(n)):
                return replace(sampler, placed=possible)
        listed = ", ".join(map(str, wanted))
        raise ValueError(
            f"{host.name}: no Wyckoff positions of its fixed sites' symmetry (space group "
            f"{options[0][0].space_group}) add up to {listed} atoms, and without symmetry "
            f"there are more than the {model.max_orbits} orbits that this model makes; place "
            "another number of atoms or fix fewer sites"
        )

    def can_place(self, count: int) -> bool:
        """Whether some positions and elements add up to `count` atoms in few enough orbits."""
        rng = torch.Generator().manual_seed(0)
        for _ in range(_ELEMENT_TRIES):
            chosen = self._draw_positions(count, rng)
            if chosen is None:
                return False
            if self._elements(chosen, count, rng) is not None:
                return True
        return False

    def draw(self, rng: torch.Generator) -> PartialCrystal:
        """One partial crystal.

        Raises:
            ValueError: If the elements that must occur do not fit on the positions.
        """
        for _ in range(_ELEMENT_TRIES):
            count = self.placed[int(torch.randint(len(self.placed), (), generator=rng))]
            chosen = self._draw_positions(count, rng)
            if chosen is None:
                continue
            elements = self._elements(chosen, count, rng)
            if elements is not None:
                return self._partial_crystal(chosen, elements)
        raise ValueError(
            f"{self.host.name}: no positions were found for the elements that are asked for; "
            "place another number of atoms, or say space-group none"
        )

    def _draw_positions(self, count: int, rng: torch.Generator) -> list[Position] | None:
        room = self.max_orbits - len(self.framework.operations)
        for _ in range(_TRIES if count else 1):
            chosen: list[Position] = []
            left, open_ones = count, list(self.positions)
            while left and open_ones and len(chosen) < room:
                fitting = [position for position in open_ones if len(position.operations) <= left]
                if not fitting:
                    break
                position = fitting[int(torch.randint(len(fitting), (), generator=rng))]
                chosen.append(position)
                left -= len(position.operations)
                if not position.is_free:
                    open_ones.remove(position)
            if not left:
                return chosen
        return None

    def _elements(
        self, chosen: list[Position], count: int, rng: torch.Generator
    ) -> tuple[int, ...] | None:
        """Elements of the placed orbits, 0 where open."""
        cells = self.change.num_copies
        total = count * cells + len(self.host.numbers)
        required = self.constraints.required_atoms(total) - Counter(self.host.numbers.tolist())
        required = Counter({z: -(-number // cells) for z, number in required.items()})
        sizes = np.array([len(position.operations) for position in chosen], dtype=int)
        return place_on_orbits(sizes, required, self.constraints.is_complete, rng)

    def _partial_crystal(self, chosen: list[Position], elements: tuple[int, ...]) -> PartialCrystal:
        framework = self.framework
        orbits = Orbits(
            space_group=framework.space_group,
            lattice=framework.lattice,
            atomic_numbers=np.concatenate(
                [framework.atomic_numbers, np.ones(len(chosen), int)]
            ).astype(int),
            frac_coords=np.array(
                [*framework.frac_coords, *(position.frac_coords for position in chosen)]
            ).reshape(-1, 3),
            operations=(
                *framework.operations,
                *(np.array(position.operations) for position in chosen),
            ),
        )
        fixed = framework.atomic_numbers.tolist()
        return PartialCrystal(
            orbits=orbits,
            elements=(*fixed, *elements),
            known=(True,) * len(fixed) + (False,) * len(chosen),
            prescribed=False,
            fixed_cell=self.host.fix_lattice,
            host=self.host,
            change=self.change,
        )


def _with_symmetry(host: Host) -> list[tuple[Orbits, CellChange]]:
    """The fixed sites as orbits of their own group; nothing where that group cannot be used."""
    arguments = (host.numbers.numpy(), host.coords.numpy(), host.lattice.numpy())
    try:
        setting = find_setting(*arguments, SYMPREC_GENERATED)
        orbits = orbits_in_setting(setting, *arguments, 2 * SYMPREC_GENERATED)
    except ValueError:
        return []
    to_primitive = np.linalg.inv(setting.group.primitive_cell)
    change = CellChange(
        matrix=torch.from_numpy(setting.matrix.T @ to_primitive),
        shift=torch.from_numpy(setting.shift @ to_primitive),
    )
    return [(orbits, change)]


def _without_symmetry(host: Host) -> tuple[Orbits, CellChange]:
    """The fixed sites in the host's reduced cell, each an orbit."""
    matrix = host.reduction.inverse()
    coords = (host.coords @ matrix).numpy()
    lattice = (host.reduction @ host.lattice).numpy()
    orbits = p1_orbits(host.numbers.numpy(), coords, lattice)
    return orbits, CellChange(matrix=matrix, shift=torch.zeros(3, dtype=torch.double))


def _positions(framework: Orbits, model: ModelConfig) -> tuple[Position, ...]:
    """The general position of a group and those of known crystals; fixed ones only where free."""
    group = space_group(framework.space_group)
    general = Position(
        frac_coords=(0.0, 0.0, 0.0),
        operations=tuple(range(len(group.rotations))),
        is_free=True,
    )
    if framework.space_group == 1:
        return (general,)
    atoms = framework.expand()[1]

    def is_taken(place: np.ndarray) -> bool:
        apart = atoms - place
        distance = np.linalg.norm((apart - np.rint(apart)) @ framework.lattice, axis=-1)
        return bool((distance < _MIN_DISTANCE).any())

    special = (
        position
        for position in _known_positions(framework.space_group, model)
        if position.is_free or not is_taken(np.array(position.frac_coords))
    )
    return (general, *special)


def _known_positions(number: int, model: ModelConfig) -> list[Position]:
    """Special positions on which known crystals of a group have atoms, each once."""
    library = template_library(model.max_orbits, model.max_atoms)
    crystals = library.crystals
    owner = np.repeat(np.arange(len(crystals)), crystals.num_orbits.numpy())
    orbits = np.flatnonzero(library.space_groups[owner] == number)
    orbits = orbits[crystals.multiplicity.numpy()[orbits] < len(space_group(number).rotations)]
    sizes = crystals.multiplicity.numpy()[orbits]
    basis = crystals.basis.numpy()[orbits].astype(float)
    places = crystals.frac_coords.numpy()[orbits].astype(float)
    inside = np.linalg.pinv(basis) @ basis  # onto the free directions, which do not count
    places = places - (places[:, None] @ inside)[:, 0]
    marks = np.concatenate(
        [sizes[:, None], np.rint(basis).reshape(-1, 9), np.rint(places * 48) % 48], axis=1
    )
    positions = []
    for index in np.sort(np.unique(marks, axis=0, return_index=True)[1]).tolist():
        row = int(owner[orbits[index]])
        operations = crystals.orbits(row).operations[orbits[index] - int(crystals.first_orbit[row])]
        positions.append(
            Position(
                frac_coords=tuple(places[index].tolist()),
                operations=tuple(operations.tolist()),
                is_free=bool(basis[index].any()),
            )
        )
    return positions
