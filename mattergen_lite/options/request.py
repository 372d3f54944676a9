"""Options that say how samples have to be."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mattergen_lite.options.checks import NameOrPath, Paths, options
from mattergen_lite.options.texts import (
    Conditions,
    Guidance,
    Range,
    RangeOrName,
    Sites,
    System,
    Words,
    weights_of,
)

EMBEDDED = "embedded"  # the crystal table in the package, where a file is expected
NEW_FRAMEWORKS = "new-frameworks"  # that of our own crystals whose frameworks no known one has
DEFAULT_CHECKPOINT = "mp"


@options
class Request:
    """Properties, elements, sizes, symmetry and known sites of the samples.

    Attributes:
        propose: Source of the crystals: the model of the checkpoint; substitution, which puts
            similar elements into known crystals; or ion-exchange, which puts in ions of the same
            charge and similar radii. The last two take no targets and no hosts.
        checkpoint: Name of a shipped model, path of a model folder, or hf:organisation/model@commit
            of the Hugging Face Hub (extra `hub`).
        condition: Target such as band_gap=2.0, a range such as
            band_gap=1.5..2.5, or a bound such as 'bulk_modulus>300' or 'e_above_hull<0.05' (in
            quotes, for the shell); repeat for several. Each sample draws its value from a range.
        guidance: Weight of the targets: 0 ignores them, 1 samples the conditional model, 3
            (default) insists; band_gap=5 sets the weight of one property. Repeat for several.
        stability_guidance: Weight of the guidance towards the convex hull, where the checkpoint
            knows e_above_hull: 0 switches it off, 1 is the conditional model, above insists.
        probe: Folder that `probe fit` wrote. The probe guides towards the condition on its
            property, and predicts it for every sample; repeat for several.
        measured_by: Model, by name or folder, whose regressions predict properties without an
            exact value, such as a band gap; default the checkpoint. Fine-tuned models have none.
        elements: Elements that may occur, such as Li,P,S; no sample contains any other.
        must_contain: Elements that every sample has, such as Li; --elements and --exclude say which
            others may occur.
        chemical_system: Exactly the elements of every sample, such as Li-P-S.
        exclude: Elements that must not occur, such as Pb,Cd or toxic,radioactive,scarce,
            rare-earth, which `data elements` lists.
        fraction: Share of the atoms that an element has, such as Li=0.2..0.4, Li=0.25 or 'Li>0.3'
            (in quotes, for the shell); repeat for several.
        formula: Composition of every sample, such as LiFePO4 (crystal structure prediction).
        formula_units: Formula units of a cell, such as 2 or 1..4; default all that fit.
        num_atoms: Atoms per primitive cell, such as 8 or 4..12; default up to 20, or more where a
            formula, a host or a space group needs them.
        space_group: Symmetry of every sample, on the template of a known crystal: any (default, as
            frequent as among known crystals), 225, Fm-3m, 195..230 or cubic; none prescribes no
            symmetry.
        seed_structure: Crystal to build into, one structure in any readable format.
        fix_sites: Sites of the seed structure that stay: all (default), none, numbers from 0 such
            as 0,1,4..7, or elements such as Fe,O. The other sites are removed.
        fix_lattice: Keep the seed structure's cell.
        insert: Atoms to add beside the fixed sites, such as 2 or 1..4; default as many as were
            removed. --elements says of which elements.
    """

    propose: Literal["model", "substitution", "ion-exchange"] = "model"
    checkpoint: NameOrPath = DEFAULT_CHECKPOINT
    condition: Conditions = ()
    guidance: Guidance = ()
    stability_guidance: Annotated[float, Field(ge=0, le=100)] = 3.0
    probe: Paths = ()
    measured_by: NameOrPath | None = None
    elements: Words | None = None
    must_contain: Words | None = None
    chemical_system: System | None = None
    exclude: Words | None = None
    fraction: Conditions = ()
    formula: str | None = None
    formula_units: Range | None = None
    num_atoms: Range | None = None
    space_group: RangeOrName | None = None
    seed_structure: Path | None = None
    fix_sites: Sites | None = None
    fix_lattice: bool = False
    insert: Range | None = None

    def __post_init__(self) -> None:
        weights_of(self.guidance, [target.name for target in self.condition])
