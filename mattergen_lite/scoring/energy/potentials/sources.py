"""Opens potentials: families by name, weights by path, calculators by import or as objects.

| what is given | what is loaded |
|---|---|
| `chgnet`, `7net-l3i5`, `mace:medium-mpa-0` | a model of a family, by its maker's name |
| `mace:my.model`, `my.model` | weights; the family may be left out where the suffix tells it |
| `module:factory` | an ASE calculator, or a `Potential`, that an installed module makes |
| an ASE calculator, a `Potential` | itself |

Families are those of this package and those that others publish as entry points of the group
`mattergen_lite.potentials`: a function of a model's name (or path) and a device, which returns a
`Potential`. Nothing is imported from the current folder.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from uuid import uuid4

from mattergen_lite.plugins import as_value_error, import_object
from mattergen_lite.processes import without_current_folder
from mattergen_lite.scoring.energy.potentials.base import AsePotential, Load, Potential
from mattergen_lite.scoring.energy.potentials.families import FAMILIES, Family

GROUP = "mattergen_lite.potentials"


@dataclass(frozen=True)
class Given:
    """A potential that is an object, or whose weights may change under the same name.

    `identity` keeps its cached results apart from those of other potentials of that name.
    """

    name: str
    identity: str
    potential: Potential | None = field(default=None, compare=False, repr=False)  # or by its name
    location: str = ""  # what loads it, where that is not its name


PotentialSource = str | Given


SHIPPED = ("chgnet", "7net-0", "7net-mf-0", "7net-l3i5")  # with weights in wheels


def potential_source(given: object) -> PotentialSource:
    """Where a potential is to be had: its name or path, or the object itself with an identity.

    Raises:
        ValueError: If it is no name, path, ASE calculator or `Potential`.
    """
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, str | Given):
        return given
    potential = _as_potential(given)
    return Given(potential.name, uuid4().hex, potential)


def check_potential(source: PotentialSource) -> None:
    """See whether a potential can be found, without loading it.

    Raises:
        ValueError: If the name is unknown or its package is not installed.
    """
    if isinstance(source, str) or source.potential is None:
        _loader(_location(source))


def load_potential(source: PotentialSource, device: str = "cpu") -> Potential:
    """Load a potential as it is, without an acceptance test; by name only once a process.

    Raises:
        ValueError: If it is unknown, its package is not installed or its weights cannot be had.
    """
    if isinstance(source, Given) and source.potential is not None:
        return source.potential
    return _load(_location(source), device)


def _location(source: PotentialSource) -> str:
    """Name or path that loads a potential."""
    return source if isinstance(source, str) else source.location or source.name


def potential_name(source: PotentialSource) -> str:
    """Name of a potential, as in the columns and files of its energies."""
    return source if isinstance(source, str) else source.name


@lru_cache(maxsize=8)
def _load(name: str, device: str) -> Potential:
    load, model = _loader(name)
    with without_current_folder(), as_value_error(f"cannot load potential {name!r}"):
        potential = load(model, device)
    return replace(potential, name=name) if isinstance(potential, AsePotential) else potential


def _loader(name: str) -> tuple[Load, str]:
    """What loads a potential, and the name or path of the model it is asked for."""
    prefix, colon, model = name.partition(":")
    if not colon and Path(name).exists():
        prefix, model = _family_of(Path(name)), name
    elif not colon:
        prefix, _, model = name.partition("-")
    if prefix in FAMILIES:
        return _installed(FAMILIES[prefix]).load, model
    with without_current_folder():
        published = {entry.name: entry for entry in entry_points(group=GROUP)}
    for entry, rest in ((prefix, model), (name, "")):
        if entry in published:
            with without_current_folder(), as_value_error(f"cannot import potential {entry!r}"):
                return published[entry].load(), rest
    if colon and name.replace(":", ".").replace(".", "").isidentifier():
        return _factory(name), ""
    others = [
        f"{family}:..." for family in [*FAMILIES, *published] if family not in ("chgnet", "7net")
    ]
    raise ValueError(
        f"unknown potential {name!r}: expected one of {', '.join([*SHIPPED, *others])}, "
        "a path to weights or module:factory"
    )


def family_version(name: str) -> str:
    """Version of the package that runs a potential of this name; empty if it is no family's."""
    family = FAMILIES.get(name.partition(":")[0]) or FAMILIES.get(name.partition("-")[0])
    with suppress(PackageNotFoundError):
        return version(family.distribution) if family else ""
    return ""


def _family_of(path: Path) -> str:
    """The family that weights belong to, as far as their suffix tells."""
    suffix = "/" if path.is_dir() else path.suffix
    fitting = [name for name, family in FAMILIES.items() if family.suffix == suffix]
    if len(fitting) != 1:
        expected = ", ".join(f"{name}:{path}" for name in fitting or FAMILIES)
        raise ValueError(f"weights of which family? {str(path)!r}: expected one of {expected}")
    return fitting[0]


def _installed(family: Family) -> Family:
    """Return a family unchanged if its package is installed."""
    with without_current_folder():
        is_there = find_spec(family.package) is not None
    if not is_there:
        raise ValueError(f"{family.package} is not installed: expected {family.install}")
    return family


def _factory(name: str) -> Load:
    """A user's own function that makes a calculator, as something that loads a potential."""
    made = import_object(name)

    def load(model: str, device: str) -> Potential:
        if not callable(made):  # the calculator itself
            return _as_potential(made)
        takes_device = "device" in signature(made).parameters
        return _as_potential(made(device=device) if takes_device else made())

    return load


def _as_potential(given: object) -> Potential:
    """A potential or an ASE calculator as a potential."""
    if isinstance(given, Potential):
        return given
    if hasattr(given, "get_potential_energy") and hasattr(given, "get_forces"):
        return AsePotential(type(given).__name__, given)
    raise ValueError(
        f"{type(given).__name__} is no potential: expected a name, a path, an ASE calculator or "
        "an object with energy, single_points and correction"
    )
