"""The field's evaluation protocols, each with its thresholds, and what was published under them.

Figures of different protocols do not compare: each has its own set of known structures, its own
threshold and its own moment (raw or relaxed) at which it looks at a crystal.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from mattergen_lite.scoring.criteria.matching import PREDICTED, SAME

TRAINING = "MP-20 training split"
EVERYTHING = "Materials Project, up to 52 atoms"


@dataclass(frozen=True)
class Figure:
    """A column of a table: what is measured and how it is written."""

    name: str  # in JSON
    heading: str
    how: str
    unit: str = "%"  # "%": a share in 0..1, printed times 100; else the unit of the number
    better: Literal["higher", "lower"] = "higher"
    sampled: bool = True  # a share of the number of crystals in the table, which sets its error


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to evaluate a set of crystals."""

    name: str
    title: str
    source: str  # where it is defined
    kind: Literal["de novo", "prediction", "conditional"]
    figures: tuple[Figure, ...]
    relaxed: bool = False  # crystals are relaxed, and their stability judged
    compared: Literal["raw", "relaxed"] = "raw"  # when a crystal is looked at for being unique, new
    novel_against: str | None = None  # TRAINING or EVERYTHING; None: not asked
    stable_below: float | None = None  # eV/atom above the hull
    metastable_below: float | None = None  # eV/atom above the hull, where it is another figure
    w1_over: Literal["all", "valid"] | None = None  # crystals whose distributions are compared
    coverage: bool = False  # fingerprints are compared with those of known crystals
    differences: tuple[str, ...] = ()  # from what the papers do
    left_out: tuple[str, ...] = ()  # of what the papers report, and why


@dataclass(frozen=True, kw_only=True)
class Published:
    """Rows as published, all under one protocol; a figure that is not reported is absent."""

    source: str
    judged_by: str
    num_structures: int | None
    rows: Mapping[str, Mapping[str, float]]  # figures by model, shares in 0..1


@cache
def published(protocol: str) -> Published | None:
    """What was published under a protocol; None if nothing comparable was."""
    text = (files("mattergen_lite") / "assets" / "published.json").read_text(encoding="utf-8")
    content = json.loads(text).get(protocol)
    return Published(**content) if content else None


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: If there is none.
    """
    by_name = {protocol.name: protocol for protocol in PROTOCOLS}
    if name not in by_name:
        raise ValueError(f"unknown protocol {name!r}: expected one of {', '.join(by_name)}")
    return by_name[name]


def _distance(name: str, heading: str, how: str, unit: str = "") -> Figure:
    return Figure(name, heading, how, unit=unit, better="lower")


STRUCTURE_VALID = Figure(
    "structure_valid",
    "struct. valid %",
    "raw crystals: no two atoms within 0.5 Å and a cell of at least 0.1 Å³",
)
COMPOSITION_VALID = Figure(
    "composition_valid",
    "comp. valid %",
    "smact: charges balance and obey Pauling's rule; metals and elements count as valid",
)
VALID = Figure("valid", "valid %", "structure and composition")
UNIQUE = Figure(
    "unique",
    "unique %",
    "first of its kind in the set; the most stable of equal crystals comes first",
)
NOVEL = Figure("novel", "novel %", "equals no known structure")
UNIQUE_AND_NOVEL = Figure(
    "unique_and_novel",
    "unique + novel %",
    "first of its kind in the set, and equal to no known structure",
)
RMSD = _distance(
    "rmsd",
    "RMSD to relaxed (Å)",
    "mean root mean square displacement of atoms from raw to relaxed, without strain",
    "Å",
)
_TEST = "to the embedded MP-20 test split"
W1 = (
    _distance(
        "w1_density", "W1 density", f"Wasserstein distance of densities (g/cm³) {_TEST}", "g/cm³"
    ),
    _distance("w1_n_ary", "W1 n-ary", f"Wasserstein distance of the number of elements {_TEST}"),
)
COV_RECALL = Figure(
    "cov_recall",
    "COV-R %",
    "of the 7,333 crystals of the embedded MP-20 test split: those with a CrystalNN structure "
    "fingerprint of the set within 0.4 and a Magpie composition of the set within 10 standard "
    "deviations, maybe of different crystals",
    sampled=False,
)
COV_PRECISION = Figure(
    "cov_precision",
    "COV-P %",
    "of all crystals of the set, valid or not: those as close to crystals of the test split",
)


def _stability(threshold: float, *, share: str = "stable", sun: str = "sun") -> tuple[Figure, ...]:
    """Stability and S.U.N. at a threshold, as the papers count them and as DFT would."""
    letters = {"sun": "S.U.N.", "msun": "M.S.U.N."}[sun]
    below = f"e_above_hull <= {threshold:g} eV/atom"
    expected = f"sum of the calibrated probabilities that DFT finds {below}"
    new = f"{expected}, over unique and novel crystals"
    return (
        Figure(share, f"{share} %", f"the potential's own {below}"),
        Figure(f"expected_{share}", f"{share} %, expected of DFT", expected),
        Figure(sun, f"{letters} %", f"{share}, unique and novel"),
        Figure(f"expected_{sun}", f"{letters} %, expected of DFT", new),
    )


_MATCHER = f"equal: pymatgen's StructureMatcher with {SAME}"
_POTENTIALS = (
    "relaxed with CHGNet, decided by the potential named in the table, on the Materials Project "
    "hull with MP2020 corrections and fitted element references"
)
_TEST_SPLIT = "the embedded test split has those MP-20 test crystals that are still in the database"

CDVAE = Protocol(
    name="cdvae",
    title="validity, coverage and property distributions of raw crystals",
    source="CDVAE, arXiv 2110.06197, appendix B",
    kind="de novo",
    figures=(STRUCTURE_VALID, COMPOSITION_VALID, VALID, COV_RECALL, COV_PRECISION, *W1),
    w1_over="valid",
    coverage=True,
    differences=(
        "W1 over all valid crystals; CDVAE draws 1,000 of them",
        "smact of today with its smact14 oxidation states; CDVAE's was older",
        "COV-R grows with the size of the set: only sets of one size compare",
        "a crystal without a fingerprint is missing in COV-P, as in CDVAE, but stays valid",
        "compositions are scaled by mean and standard deviation of MP-20's training split; CDVAE's "
        "code has constants of its own",
        _TEST_SPLIT + ": 7,333 of the 9,046 that papers compare with",
    ),
    left_out=("W1 of energy: needs CDVAE's own energy model",),
)
MATTERGEN = Protocol(
    name="mattergen",
    title="stable, unique and novel after relaxation; distance to the minimum",
    source="MatterGen, Nature 639, 624 (2025)",
    kind="de novo",
    figures=(*_stability(0.1), UNIQUE, NOVEL, RMSD),
    relaxed=True,
    compared="relaxed",
    novel_against=EVERYTHING,
    stable_below=0.1,
    differences=(
        _POTENTIALS,
        "hull and known structures are the Materials Project's; MatterGen's include Alexandria "
        "and ICSD, against which fewer crystals are stable and novel",
        _MATCHER + "; MatterGen's also calls ordered and disordered forms equal",
    ),
)
LEMAT = Protocol(
    name="lemat",
    title="strictly stable and metastable, unique and novel, relaxed first",
    source="LeMat-GenBench, arXiv 2512.04562",
    kind="de novo",
    figures=(*_stability(0.0), *_stability(0.1, share="metastable", sun="msun"), UNIQUE_AND_NOVEL),
    relaxed=True,
    compared="relaxed",
    novel_against=EVERYTHING,
    stable_below=0.0,
    metastable_below=0.1,
    differences=(
        _POTENTIALS,
        "hull and known structures are the Materials Project's; LeMat-GenBench's are LeMat-Bulk's",
        _MATCHER + "; LeMat-GenBench compares hashes of bonding graphs",
        "shares are of all crystals; no validity filter comes before",
    ),
)
CRYSTALITE = Protocol(
    name="crystalite",
    title="S.U.N. against what the model was trained on",
    source="Crystalite, arXiv 2604.02270",
    kind="de novo",
    figures=(STRUCTURE_VALID, COMPOSITION_VALID, UNIQUE_AND_NOVEL, *_stability(0.1), *W1),
    relaxed=True,
    compared="raw",
    novel_against=TRAINING,
    stable_below=0.1,
    w1_over="all",
    differences=(
        _POTENTIALS,
        _MATCHER + ", on raw crystals",
        "novel against the training split only: a model trained on more is flattered",
        _TEST_SPLIT,
    ),
)
CSP = Protocol(
    name="csp",
    title="crystal structure prediction",
    source="CDVAE and DiffCSP, arXiv 2309.04475; METRe and cRMSE: arXiv 2509.12178",
    kind="prediction",
    figures=(
        Figure(
            "match_rate",
            "match rate %",
            "known structures that a sample meant for them matches: StructureMatcher with "
            f"{PREDICTED}",
        ),
        _distance("rmse", "RMSE", "mean over these of the smallest displacement, in (V/N)^(1/3)"),
        Figure(
            "metre",
            "METRe %",
            "known structures, equal ones counted once, that any sample of the set matches",
            sampled=False,
        ),
        Figure(
            "polymorph_rate",
            "polymorphs %",
            "known structures that any sample of the set matches and has the space group of, "
            "at 0.03 Å; mirror images count as one",
        ),
        _distance(
            "crmse",
            "cRMSE",
            "mean over these of the smallest displacement, 0.5 where nothing matches",
        ),
        Figure(
            "sample_match_rate",
            "samples matching %",
            "samples, equal ones counted once, that match any known structure",
            sampled=False,
        ),
    ),
    differences=(
        "samples that are not valid are compared as well; CDVAE and DiffCSP let them fail",
        "with several samples of a composition the closest counts: match rate at k, not at 1",
    ),
)
CONDITIONAL = Protocol(
    name="conditional",
    title="hit rates of property targets",
    source="this package: `scoring.metrics.hits`",
    kind="conditional",
    figures=(
        Figure(
            "rate",
            "on target %",
            "of the samples on which the property can be measured: within the range, of the "
            "category, or within the tolerance of `scoring.computed_properties`",
        ),
        Figure(
            "base_rate",
            "training data %",
            "crystals of MP-20's training split with a known value that meet the same demand",
            sampled=False,
        ),
        Figure("enrichment", "times the base rate", "one over the other", unit=""),
        _distance(
            "mae",
            "mean error",
            "mean absolute difference of measured and asked value, in the property's unit",
        ),
    ),
    left_out=("published rows: no hit rates of different models under one protocol exist",),
)
PROTOCOLS = (CDVAE, MATTERGEN, LEMAT, CRYSTALITE, CSP, CONDITIONAL)
