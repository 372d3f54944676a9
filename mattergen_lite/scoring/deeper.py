"""Deeper checks, of the best candidates only: phonons and the bulk modulus."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.processes import Failure
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.elasticity import Elasticity, bulk_modulus
from mattergen_lite.scoring.energy.phonons import Phonons, phonons
from mattergen_lite.scoring.energy.potentials.exam import admitted
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource
from mattergen_lite.scoring.execution.journal import Journal, Question, structure_identity

TIME_LIMIT = 3600.0  # s per crystal
HOPELESS = 0.2  # eV/atom above the hull beyond which curvatures are not worth computing
HOPELESS_REASON = f"not computed: more than {HOPELESS} eV/atom above the hull"


def find_phonons(structure: Structure, *, potential: PotentialSource) -> Phonons:
    """Phonons of a crystal, which relaxes further with this potential first."""
    return phonons(structure, admitted(potential))


def find_elasticity(structure: Structure, *, potential: PotentialSource) -> Elasticity:
    """Bulk modulus of a crystal by this potential."""
    return bulk_modulus(structure, admitted(potential))


def is_hopeless(candidate: Candidate) -> bool:
    """Tell whether a crystal lies so far above the hull that nobody would make it."""
    return candidate.stability is not None and candidate.stability.e_above_hull > HOPELESS


def deepen(
    candidates: Sequence[Candidate],
    options: ShortlistOptions,
    *,
    potential: PotentialSource,
    journal: Journal,
    needs_stability: bool = False,
) -> list[Candidate]:
    """Find phonons and elasticity of the best relaxed candidates; ranks stay as they are.

    Args:
        candidates: Best first.
        options: What is found, and of how many.
        potential: Who is asked: the accurate one, for curvatures are harder than energies.
        journal: Processes to work in, and what they have found before.
        needs_stability: Leave out crystals that lie more than `HOPELESS` above the hull.
    """
    deeper = list(candidates)
    best = candidates[: options.shortlist]
    relaxed = [i for i, one in enumerate(best) if one.relaxed_structure is not None]
    hopeless = [i for i in relaxed if needs_stability and is_hopeless(best[i])]
    chosen = [i for i in relaxed if i not in hopeless]
    structures = [candidates[i].relaxed_structure for i in chosen]
    checks = {  # field of a candidate: whether it is wanted, what finds it, where failures stand
        "phonons": (options.phonons, find_phonons, Phonons, "phonon_error"),
        "elasticity": (options.bulk_modulus, find_elasticity, Elasticity, "elasticity_error"),
    }
    for name, (is_wanted, find, kind, error) in checks.items():
        if not is_wanted:
            continue
        asked = partial(find, potential=potential)
        question = Question(asked, structure_identity, TypeAdapter(kind), name, TIME_LIMIT)
        for i, found in zip(chosen, journal.ask(question, structures), strict=True):
            result = kind(**{error: found.reason}) if isinstance(found, Failure) else found
            deeper[i] = replace(deeper[i], **{name: result})
        for i in hopeless:
            deeper[i] = replace(deeper[i], **{name: kind(**{error: HOPELESS_REASON})})
    return deeper
