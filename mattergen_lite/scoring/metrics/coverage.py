"""Measures how much of a set of known crystals a set of samples covers.

COV-R and COV-P of CDVAE (Xie et al., arXiv 2110.06197, appendix B) with fingerprints of matminer:

- structure: order parameters of CrystalNN's coordination polyhedra, averaged over the sites;
- composition: standardised Magpie statistics; what is not known of an element counts as the mean.

A crystal is covered if the closest structure of the other set is within 0.4 and the closest
composition within 10, maybe of two different crystals. The known crystals are MP-20's test split,
with fingerprints by `scripts/build_coverage_reference.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter
from pymatgen.core import Composition, Structure
from scipy.spatial.distance import cdist

from mattergen_lite.scoring.execution.result_cache import CachedTask, structure_identity
from mattergen_lite.symmetry.detection import symmetry_dataset
from mattergen_lite.tensors.shapes import Float

if TYPE_CHECKING:
    from matminer.featurizers.composition import ElementProperty
    from matminer.featurizers.site import CrystalNNFingerprint

STRUCTURE_CUTOFF = 0.4  # CDVAE's for MP-20
COMPOSITION_CUTOFF = 10.0  # likewise, in standard deviations
SYMPREC_SAME = 1e-3  # Å; sites are the same if the crystal maps them onto each other this closely
TIME_LIMIT = 300.0  # s per crystal
ROWS_AT_ONCE = 500  # of a table of distances


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Composition and structure of a crystal as vectors, between which distances are taken."""

    structure: list[float]  # 61 numbers
    composition: list[float]  # 132 numbers, as they are; NaN where an element has none


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How a set of crystals and a set of known ones cover each other, in 0..1."""

    recall: float  # COV-R: of the known crystals
    precision: float  # COV-P: of the set


def has_matminer() -> bool:
    """Whether fingerprints can be worked out."""
    return find_spec("matminer") is not None


@cache
def _site_featuriser() -> "CrystalNNFingerprint":
    from matminer.featurizers.site import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops")


@cache
def _composition_featuriser() -> "ElementProperty":
    from matminer.featurizers.composition import ElementProperty

    return ElementProperty.from_preset("magpie")


def structure_fingerprint(structure: Structure) -> Float[np.ndarray, "61"]:
    """Order parameters of the coordination of a crystal's sites, averaged over them.

    One site of each orbit is looked at and counted as often as it occurs.

    Raises:
        ValueError: If CrystalNN finds no neighbours, or numbers that are not finite.
    """
    firsts, counts = np.unique(_orbits(structure), return_counts=True)
    sites = [_site_featuriser().featurize(structure, int(first)) for first in firsts]
    mean = np.average(sites, axis=0, weights=counts)
    if not np.isfinite(mean).all():
        raise ValueError(f"the fingerprint of {structure.formula} is not finite")
    return mean


def _orbits(structure: Structure) -> np.ndarray:
    """For each site the first one that is equal to it by symmetry."""
    try:
        return symmetry_dataset(structure, SYMPREC_SAME).crystallographic_orbits
    except ValueError:  # no symmetry at all: every site for itself
        return np.arange(len(structure))


def composition_fingerprint(composition: Composition) -> Float[np.ndarray, "132"]:
    """Magpie statistics of the elements, weighted by their fractions."""
    return np.array(_composition_featuriser().featurize(composition.element_composition))


def fingerprint(structure: Structure) -> Fingerprint:
    """Both fingerprints of an ordered crystal; needs matminer.

    Raises:
        ValueError: If there is none of the structure.
    """
    return Fingerprint(
        structure=structure_fingerprint(structure).tolist(),
        composition=composition_fingerprint(structure.composition).tolist(),
    )


FINGERPRINT = CachedTask(
    function=fingerprint,
    identity=structure_identity,
    answers=TypeAdapter(Fingerprint),
    label="fingerprints",
    time_limit=TIME_LIMIT,
)


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Makes statistics of compositions comparable with each other."""

    mean: Float[np.ndarray, "132"]
    std: Float[np.ndarray, "132"]

    def scaled(self, compositions: Float[np.ndarray, "M 132"]) -> Float[np.ndarray, "M 132"]:
        """In standard deviations from the mean; 0 where it is not known."""
        return np.nan_to_num((compositions - self.mean) / self.std, nan=0.0)


@dataclass(frozen=True, kw_only=True)
class KnownFingerprints:
    """M known crystals."""

    material_ids: list[str]
    structures: Float[np.ndarray, "M 61"]
    compositions: Float[np.ndarray, "M 132"]  # scaled
    scaler: Scaler  # fitted on MP-20's training split

    @classmethod
    def of(
        cls, material_ids: Sequence[str], fingerprints: Iterable[Fingerprint], scaler: Scaler
    ) -> "KnownFingerprints":
        """Put together what was worked out."""
        read = list(fingerprints)
        return cls(
            material_ids=list(material_ids),
            structures=np.array([crystal.structure for crystal in read]),
            compositions=scaler.scaled(np.array([crystal.composition for crystal in read])),
            scaler=scaler,
        )

    @classmethod
    def load(cls, path: Path) -> "KnownFingerprints":
        """Read a file; nothing in it is code."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                material_ids=arrays["material_ids"].tolist(),
                structures=arrays["structures"].astype(float),
                compositions=arrays["compositions"].astype(float),
                scaler=Scaler(mean=arrays["mean"], std=arrays["std"]),
            )


@cache
def known_fingerprints() -> KnownFingerprints:
    """Load the fingerprints of MP-20's test split, which the package contains."""
    with as_file(files("mattergen_lite") / "assets" / "mp_20_test_fingerprints.npz") as path:
        return KnownFingerprints.load(path)


def coverage(
    fingerprints: Sequence[Fingerprint | None],
    known: KnownFingerprints,
    *,
    structure_cutoff: float = STRUCTURE_CUTOFF,
    composition_cutoff: float = COMPOSITION_CUTOFF,
) -> Coverage:
    """COV-R and COV-P of the fingerprints of samples, None where there is none.

    All samples count, valid or not, as in CDVAE: one without a fingerprint covers nothing. Cutoffs
    are Euclidean distances, of compositions in standard deviations.

    Raises:
        ValueError: If there is no sample or no known crystal.
    """
    if not len(fingerprints) or not known.material_ids:
        raise ValueError(
            f"{len(fingerprints)} samples against {len(known.material_ids)} known crystals: "
            "expected at least one each"
        )
    readable = [crystal for crystal in fingerprints if crystal is not None]
    if not readable:
        return Coverage(recall=0.0, precision=0.0)
    structures = np.array([crystal.structure for crystal in readable])
    compositions = known.scaler.scaled(np.array([crystal.composition for crystal in readable]))
    of_known, of_sample = (
        (structure <= structure_cutoff) & (composition <= composition_cutoff)
        for structure, composition in zip(
            nearest(structures, known.structures),
            nearest(compositions, known.compositions),
            strict=True,
        )
    )
    return Coverage(
        recall=float(of_known.mean()), precision=float(of_sample.sum() / len(fingerprints))
    )


def nearest(
    samples: Float[np.ndarray, "S F"], known: Float[np.ndarray, "M F"]
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "S"]]:
    """Distance of each known point to the closest sample, and of each sample to the closest known.

    Tables of distances are made for some samples at a time: 10,000 samples would take 600 MB.
    """
    to_sample, to_known = np.full(len(known), np.inf), []
    for start in range(0, len(samples), ROWS_AT_ONCE):
        distance = cdist(samples[start : start + ROWS_AT_ONCE], known)
        to_sample = np.minimum(to_sample, distance.min(axis=0))
        to_known.append(distance.min(axis=1))
    return to_sample, np.concatenate(to_known)
