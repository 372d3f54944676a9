"""Wyckoff templates: what is left of B crystals without elements, free coordinates and cell sizes.

The K rows b_k of `basis` are whole-number vectors, so the free coordinates u of a representative `x
= origin + sum_k u_k b_k` live on a torus with period 1, whatever the group.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mattergen_lite.symmetry.orbits import Orbits, site_symmetry
from mattergen_lite.symmetry.space_groups import space_group_tables
from mattergen_lite.tensors.crystal import Batch, CrystalBatch, padded
from mattergen_lite.tensors.geometry import canonical_orientation, wrap
from mattergen_lite.tensors.shapes import Bool, Float, Int

_OF_ATOMS = ("orbit", "rotations", "translations")


@dataclass(frozen=True, kw_only=True)
class Templates(Batch):
    """B templates padded to O orbits and N atoms."""

    space_group: Int[Tensor, "B"]  # 1..230
    multiplicity: Int[Tensor, "B O"]  # atoms in the primitive cell; 0 = padding
    origin: Float[Tensor, "B O 3"]  # fractional; representatives whose free coordinates are 0
    basis: Float[Tensor, "B O 3 3"]  # rows: free directions; rows of zeros where not free
    rotation_types: Float[Tensor, "B O T"]  # kinds of operations that leave the site in place
    orbit: Int[Tensor, "B N"]  # to which an atom belongs, ascending; O = padding
    rotations: Float[Tensor, "B N 3 3"]  # from the representative to each atom
    translations: Float[Tensor, "B N 3"]
    element_class: Int[Tensor, "B O"]  # orbits of one class hold one element
    classes_known: Bool[Tensor, "B"]  # whether that is prescribed; if not, each is its own class

    @cached_property
    def mask(self) -> Bool[Tensor, "B O"]:
        """True = real orbit."""
        return self.multiplicity > 0

    @cached_property
    def atom_mask(self) -> Bool[Tensor, "B N"]:
        """True = real atom."""
        return self.orbit < self.multiplicity.shape[1]

    @cached_property
    def num_atoms(self) -> Int[Tensor, "B"]:
        """Atoms in the primitive cell."""
        return self.multiplicity.sum(-1)

    @cached_property
    def members(self) -> Float[Tensor, "B N O"]:
        """1 where an atom belongs to an orbit."""
        orbits = torch.arange(self.multiplicity.shape[1], device=self.orbit.device)
        return (self.orbit.unsqueeze(-1) == orbits).to(self.basis)

    @cached_property
    def basis_length(self) -> Float[Tensor, "B O 3"]:
        """Length of each free direction in cell fractions; 0 where there is none."""
        return torch.linalg.vector_norm(self.basis, dim=-1)

    @cached_property
    def free(self) -> Bool[Tensor, "B O 3"]:
        """True = a free coordinate."""
        return self.basis_length > 0

    @cached_property
    def dual(self) -> Float[Tensor, "B O 3 3"]:
        """Pseudo-inverse of the basis: a fractional displacement d in its span is `(d @ dual)`."""
        with torch.autocast(self.basis.device.type, enabled=False):
            gram = self.basis @ self.basis.mT + torch.diag_embed((~self.free).to(self.basis))
            return self.basis.mT @ torch.linalg.inv(gram)

    @cached_property
    def invariant(self) -> Float[Tensor, "B 3 3"]:
        """Projection onto the directions that all operations leave alone: the mean rotation.

        Its range are the polar axes. It is the same seen from any representative, since a group
        multiplied by one of its operations is the same group.
        """
        means = torch.as_tensor(space_group_tables()["mean_rotations"]).to(self.basis)
        return means[self.space_group]

    def of_atoms(self, values: Float[Tensor, "B O F"]) -> Float[Tensor, "B N F"]:
        """Values of orbits, repeated for each of their atoms; padding repeats the last orbit."""
        index = self.orbit.clamp(max=values.shape[1] - 1).unsqueeze(-1)
        return torch.gather(values, 1, index.expand(-1, -1, values.shape[-1]))

    def representatives(self, free_coords: Float[Tensor, "B O 3"]) -> Float[Tensor, "B O 3"]:
        """Fractional coordinates of the representatives."""
        return wrap(self.origin + self.to_fractional(free_coords))

    def to_fractional(self, free: Float[Tensor, "B O 3"]) -> Float[Tensor, "B O 3"]:
        """Fractional displacement of representatives by steps in their free coordinates."""
        return (free.unsqueeze(-2) @ self.basis).squeeze(-2)

    def to_free(self, displacement: Float[Tensor, "B O 3"]) -> Float[Tensor, "B O 3"]:
        """Steps in the free coordinates: the part of a fractional displacement along the basis."""
        return (displacement.unsqueeze(-2) @ self.dual).squeeze(-2)

    def atoms(self, representatives: Float[Tensor, "B O 3"]) -> Float[Tensor, "B N 3"]:
        """Fractional coordinates of all atoms, not wrapped."""
        rows = self.of_atoms(representatives).unsqueeze(-1)
        return (self.rotations @ rows).squeeze(-1) + self.translations

    def remove_drift(self, displacement: Float[Tensor, "B O 3"]) -> Float[Tensor, "B O 3"]:
        """Fractional displacements of representatives without what moves the whole crystal.

        Along polar axes nothing says where the origin is. The mean displacement of all atoms,
        projected onto those axes, is taken away from every orbit.
        """
        weights = self.multiplicity.to(displacement) / self.num_atoms.unsqueeze(-1)
        mean = (weights.unsqueeze(-1) * displacement).sum(1)
        drift = (self.invariant @ mean.unsqueeze(-1)).squeeze(-1)
        return (displacement - drift.unsqueeze(1)) * self.mask.unsqueeze(-1)

    def shared(self, values: Float[Tensor, "B O F"]) -> Float[Tensor, "B O F"]:
        """The value of the first orbit of each class, for all orbits of it."""
        index = self.element_class.unsqueeze(-1).expand_as(values)
        return torch.gather(values, 1, index)

    def class_mean(self, values: Float[Tensor, "B O F"]) -> Float[Tensor, "B O F"]:
        """Mean over the orbits of each class, for all orbits of it."""
        size = (self.same_class & self.mask.unsqueeze(1)).sum(-1, keepdim=True)
        return self.class_sum(values) / size.clamp(min=1)

    def class_sum(self, values: Float[Tensor, "B O F"]) -> Float[Tensor, "B O F"]:
        """Sum over the orbits of each class, for all orbits of it."""
        return (self.same_class & self.mask.unsqueeze(1)).to(values) @ values

    @cached_property
    def same_class(self) -> Bool[Tensor, "B O O"]:
        """Whether two orbits hold the same element by prescription."""
        return self.element_class.unsqueeze(-1) == self.element_class.unsqueeze(-2)

    def with_representatives(self, representative: Int[Tensor, "B O"]) -> "Templates":
        """The same templates, each orbit seen from another of its atoms, given by its index."""
        chosen = representative.unsqueeze(-1)
        turn = torch.gather(self.rotations.flatten(2), 1, chosen.expand(-1, -1, 9))
        turn = turn.unflatten(-1, (3, 3))
        shift = torch.gather(self.translations, 1, chosen.expand(-1, -1, 3))
        moved = (turn @ self.origin.unsqueeze(-1)).squeeze(-1) + shift
        # x_a = R_a x + t_a and y = R x + t: x_a = (R_a R^-1) y + t_a - (R_a R^-1) t.
        back = torch.linalg.inv(turn).round()
        rotations = self.rotations @ self.of_atoms(back.flatten(2)).unflatten(-1, (3, 3))

        def turned(values: Float[Tensor, "B O 3"]) -> Float[Tensor, "B N 3"]:
            return (rotations @ self.of_atoms(values).unsqueeze(-1)).squeeze(-1)

        return replace(
            self,
            origin=wrap(moved) * self.mask.unsqueeze(-1),
            basis=self.basis @ turn.mT,
            rotations=rotations,
            translations=self.translations - turned(shift) - turned(wrap(moved) - moved),
        )


@dataclass(frozen=True, kw_only=True)
class OrbitCrystals(Batch):
    """B crystals on their templates; the free coordinates are 0, for each is its own origin."""

    templates: Templates
    atomic_numbers: Int[Tensor, "B O"]  # 0 = padding
    lattice: Float[Tensor, "B 3 3"]  # rows in Å, lower triangular: primitive cell

    @classmethod
    def of(cls, crystals: Sequence[Orbits]) -> "OrbitCrystals":
        """Pad crystals with different numbers of orbits and atoms into one batch."""
        most = max(len(crystal.operations) for crystal in crystals)
        sites = [site_symmetry(crystal.space_group, crystal.frac_coords) for crystal in crystals]

        def padded(rows: Iterable[np.ndarray], dtype: torch.dtype, fill: int = 0) -> Tensor:
            tensors = [torch.as_tensor(row).to(dtype) for row in rows]
            return pad_sequence(tensors, batch_first=True, padding_value=fill)

        atoms = [
            (
                np.repeat(np.arange(len(crystal.operations)), crystal.multiplicities),
                crystal.atom_operations,
            )
            for crystal in crystals
        ]
        numbers = padded((crystal.atomic_numbers for crystal in crystals), torch.long)
        slots = torch.arange(most).expand_as(numbers)
        templates = Templates(
            space_group=torch.tensor([crystal.space_group for crystal in crystals]),
            multiplicity=padded((crystal.multiplicities for crystal in crystals), torch.long),
            origin=padded((crystal.frac_coords for crystal in crystals), torch.float),
            basis=padded((basis for basis, _ in sites), torch.float),
            rotation_types=padded(
                (kinds / kinds.sum(-1, keepdims=True) for _, kinds in sites), torch.float
            ),
            orbit=padded((orbit for orbit, _ in atoms), torch.long, fill=most),
            rotations=padded((rotations for _, (rotations, _) in atoms), torch.float),
            translations=padded((shifts for _, (_, shifts) in atoms), torch.float),
            element_class=slots,
            classes_known=torch.zeros(len(crystals), dtype=torch.bool),
        )
        lattice = np.stack([crystal.lattice for crystal in crystals])
        return cls(
            templates=templates,
            atomic_numbers=numbers,
            lattice=canonical_orientation(torch.from_numpy(lattice)).float(),
        )

    @classmethod
    def concatenate(cls, batches: Sequence["OrbitCrystals"]) -> "OrbitCrystals":
        """One batch of all crystals, padded to the most orbits and atoms."""
        most_orbits = max(batch.atomic_numbers.shape[1] for batch in batches)
        most_atoms = max(batch.templates.orbit.shape[1] for batch in batches)

        def joined(name: str) -> Tensor:
            return torch.cat([_widened(batch, name, most_orbits, most_atoms) for batch in batches])

        return cls(
            templates=Templates(**{f.name: joined(f.name) for f in fields(Templates)}),
            atomic_numbers=torch.cat(
                [padded(batch.atomic_numbers, most_orbits) for batch in batches]
            ),
            lattice=torch.cat([batch.lattice for batch in batches]),
        )

    def with_classes(
        self, classes: Int[Tensor, "B O"], known: Bool[Tensor, "B"]
    ) -> "OrbitCrystals":
        """The same crystals; where `known`, the templates prescribe which orbits are alike."""
        prescribed = torch.where(known.unsqueeze(-1), classes, self.templates.element_class)
        templates = replace(self.templates, element_class=prescribed, classes_known=known)
        return replace(self, templates=templates)

    def with_random_representatives(self, uniform: Float[Tensor, "B O"]) -> "OrbitCrystals":
        """The same crystals; numbers in [0, 1) choose the atom that represents each orbit."""
        templates = self.templates
        first = templates.multiplicity.cumsum(-1) - templates.multiplicity
        chosen = first + (uniform * templates.multiplicity).long()
        chosen = torch.where(templates.mask, chosen, 0)  # padding has no atom
        return replace(self, templates=templates.with_representatives(chosen))

    def expand(self) -> CrystalBatch:
        """All atoms of the crystals, orbit by orbit."""
        templates = self.templates
        atoms = templates.atom_mask
        numbers = torch.gather(
            self.atomic_numbers, 1, templates.orbit.clamp(max=self.atomic_numbers.shape[1] - 1)
        )
        return CrystalBatch(
            atomic_numbers=numbers * atoms,
            frac_coords=wrap(templates.atoms(templates.origin)) * atoms.unsqueeze(-1),
            lattice=self.lattice,
            mask=atoms,
        )


def _widened(crystals: OrbitCrystals, name: str, most_orbits: int, most_atoms: int) -> Tensor:
    """One field of the templates, padded."""
    values = getattr(crystals.templates, name)
    if name in ("space_group", "classes_known"):
        return values
    if name == "orbit":
        padding = values == crystals.atomic_numbers.shape[1]
        return padded(values.masked_fill(padding, most_orbits), most_atoms, most_orbits)
    if name == "element_class":
        own = torch.arange(most_orbits, device=values.device).repeat(len(values), 1)
        own[:, : values.shape[1]] = values
        return own
    return padded(values, most_atoms if name in _OF_ATOMS else most_orbits)


def classes_by_element(atomic_numbers: Int[Tensor, "B O"]) -> Int[Tensor, "B O"]:
    """Find for each orbit the first orbit of its element; for padding, find itself."""
    same = atomic_numbers.unsqueeze(-1) == atomic_numbers.unsqueeze(-2)
    first = same.int().argmax(-1)
    own = torch.arange(atomic_numbers.shape[1], device=first.device).expand_as(first)
    return torch.where(atomic_numbers > 0, first, own)
