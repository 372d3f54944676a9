"""Accepts potentials: each passes the acceptance test (`acceptance_run`) before it judges.

What fails is refused with the figures. A pass is kept, by the package's version and the energies of
a few probes, in the user's cache; those of the shipped potentials are in the package.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mattergen_lite.files.folders import atomic_path
from mattergen_lite.scoring.energy.potentials.acceptance_run import (
    NUM_COMPOUNDS,
    AcceptanceTest,
    energy_per_atom,
    run_acceptance_test,
)
from mattergen_lite.scoring.energy.potentials.base import AsePotential, Potential
from mattergen_lite.scoring.energy.potentials.nequix import NequixPotential
from mattergen_lite.scoring.energy.potentials.sources import (
    SHIPPED,
    Given,
    PotentialSource,
    family_version,
    load_potential,
    potential_name,
)
from mattergen_lite.scoring.known.compounds import spread_compounds

NUM_PROBES = 4  # compounds whose energies tell weights apart

_TEST = TypeAdapter(AcceptanceTest)
_SHIPPED_TESTS = TypeAdapter(dict[str, AcceptanceTest])


@lru_cache(maxsize=8)
def accepted_potential(source: PotentialSource, device: str = "cpu") -> Potential:
    """Load a potential that has passed the acceptance test, with what the test found out.

    Raises:
        ValueError: If it cannot be loaded or fails.
    """
    potential = load_potential(source, device)
    acceptance = acceptance_of(source, potential)
    acceptance.check()
    if not isinstance(potential, AsePotential):
        return potential
    known = potential.supported_elements & acceptance.references.keys()
    return replace(
        potential, supported_elements=frozenset(known), energy_scheme=acceptance.energy_scheme
    )


def acceptance_of(source: PotentialSource, potential: Potential | None = None) -> AcceptanceTest:
    """The acceptance test of a potential, from the package, from the cache, or made now.

    Raises:
        ValueError: If it cannot be loaded.
    """
    shipped = shipped_acceptances().get(acceptance_key(source))
    if shipped is not None:
        return shipped
    potential = potential or load_potential(source)
    path = _cached(potential, source)
    with suppress(OSError, ValidationError, UnicodeDecodeError):
        return _TEST.validate_json(path.read_text(encoding="utf-8"))
    acceptance = run_acceptance_test(potential)
    if not acceptance.problems:
        with suppress(OSError):  # a home that cannot be written to costs time, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(_TEST.dump_json(acceptance))
    return acceptance


def acceptance_key(source: PotentialSource) -> str:
    """Key of a shipped test: a potential with the version of its package, or its weights' hash."""
    if isinstance(source, str):
        return f"{source} {family_version(source)}"
    return f"{source.name} {source.identity}"


def shipped_acceptances() -> dict[str, AcceptanceTest]:
    """Acceptance tests that the package brings, by `acceptance_key`."""
    path = files("mattergen_lite") / "assets" / "acceptance_tests.json"
    return _SHIPPED_TESTS.validate_json(path.read_text(encoding="utf-8"))


def _cached(potential: Potential, source: PotentialSource) -> Path:
    """Where a pass is kept: under what tells weights and versions apart."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    probes = [round(energy, 4) for energy in _probe_energies(potential)]
    installed = family_version(potential_name(source))
    identity = [potential.name, installed, version("mattergen-lite"), version("ase"), probes]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    return home / "mattergen_lite" / "acceptance_tests" / f"{digest}.json"


def identified(source: PotentialSource) -> PotentialSource:
    """Add a hash of a potential's weights or energies to its name, unless they are shipped.

    A file of weights that this package knows by its hash gets the name of its model.

    Raises:
        ValueError: If it cannot be loaded.
    """
    if isinstance(source, Given) or source in SHIPPED:
        return source
    potential = load_potential(source)
    if isinstance(potential, NequixPotential):
        return Given(potential.name, potential.digest, location=source)
    return Given(source, _cached(potential, source).stem)


def _probe_energies(potential: Potential) -> list[float]:
    """Energies in eV/atom of a few compounds that it knows; different weights give others."""
    energies = []
    for compound in spread_compounds(NUM_COMPOUNDS):
        if set(compound.structure.symbol_set) <= potential.supported_elements:
            with suppress(Exception):
                energies.append(energy_per_atom(potential, compound))
        if len(energies) == NUM_PROBES:
            break
    return energies
