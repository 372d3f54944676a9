"""Judge embedded compounds as they are, and list those whose energies potentials miss.

    python scripts/judge_known_compounds.py --measure known.jsonl --num 2000 \
        --nequix nequix-oam-1.nqx
    python scripts/judge_known_compounds.py

With `--measure`, compounds on the hull and within 0.1 eV/atom of it, in equal parts, from every
source of formation energies, are given to CHGNet, SevenNet-l3i5 and Nequix; the same command goes
on with its file, and writes `datasets/known_energies.parquet`. Without, only the page
`docs/reference/known_compounds.md` is written from that table and the shipped calibration.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition

from mattergen_lite.data.materials import known_compound, labelled_compounds
from mattergen_lite.scoring.energy.calibration import RELAXER, calibrations, error_traits
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import largest_force

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "datasets" / "known_energies.parquet"
PAGE = ROOT / "docs" / "reference" / "known_compounds.md"
DECIDER, WITNESS = "7net-l3i5", "nequix-oam-1"
MAX_ATOMS = 20  # of the primitive cell
HULL_CLASSES = {"on": (-np.inf, 1e-4, 0.5), "near": (1e-4, 0.03, 0.25), "far": (0.03, 0.1, 0.25)}
# Compounds reported as judged wrong, in every structure that the table has.
REPORTED = ("LiCoO2", "NaCoO2", "KCoO2", "LiVO2")
NUM_ERRORS = 3.0  # standard errors, beyond which a compound is listed
# eV, Wang et al. 2021: what MP2020 adds to an energy for an atom, with the sign reversed.
PER_ATOM = {"S": 0.503, "F": 0.462, "Cl": 0.614, "Br": 0.534, "I": 0.379, "N": 0.361} | {
    **{"Se": 0.472, "Sb": 0.192, "Te": 0.422, "H": 0.179},
}
SAME = 0.02  # eV/atom
DAMAGED = 5.0  # eV/Å: forces in no relaxed crystal
_HEADER = "| compound | formula | energy from | in the table | `7net-l3i5` | `nequix-oam-1` |"
CLASSES = {
    "damaged structure": "forces above 5 eV/Å: the structure in the table is not the relaxed one",
    "energy in the table": (
        "converted from older data; two potentials miss it alike, and agree with each other"
    ),
    "second anion": (
        "the table corrects an anion beside a more electronegative element (Se in Nd4Se3O4, Sb in "
        "ZrSbRu, Te in PaTe2Au); MP2020 without charges corrects the most electronegative one alone"
    ),
    "potential": "`nequix-oam-1` is right within its error: SevenNet-l3i5 is wrong",
    "both potentials": (
        "an original energy, which both potentials miss: spin or charge states that PBE+U leaves "
        "open, or an error of the table"
    ),
}


def draw(num: int) -> pd.DataFrame:
    """Draw compounds by distance to the hull and source of the formation energy."""
    table = labelled_compounds()
    num_elements = table.atomic_numbers.map(lambda numbers: len(set(numbers)))
    small = table[(table.num_atoms <= MAX_ATOMS) & (num_elements > 1)]
    drawn = [table[table.formula.isin(REPORTED)].assign(stratum="reported")]
    for name, (low, high, share) in HULL_CLASSES.items():
        rows = small[(small.e_above_hull > low) & (small.e_above_hull <= high)]
        sources = rows.groupby("formation_energy_source", observed=True)
        each = round(num * share / sources.ngroups)
        chosen = [group.sample(min(each, len(group)), random_state=28) for _, group in sources]
        drawn.append(pd.concat(chosen).assign(stratum=name))
    return pd.concat(drawn).drop_duplicates("material_id").sample(frac=1, random_state=1)


def measure(compounds: pd.DataFrame, path: Path, nequix: Path) -> pd.DataFrame:
    """Ask three potentials for the energies of compounds that a file has not."""
    potentials = [load_potential(name) for name in (RELAXER, DECIDER, f"nequix:{nequix}")]
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {json.loads(line)["material_id"] for line in lines}
    with path.open("a", encoding="utf-8") as file:
        for row in compounds[~compounds.material_id.isin(done)].to_dict("records"):
            structure = known_compound(row).structure
            atoms = structure.to_ase_atoms(msonable=False)
            cells = {"material_id": row["material_id"], "stratum": row["stratum"]}
            for potential in potentials:
                point = potential.single_points([atoms])[0]
                correction = potential.correction(structure)
                cells[potential.name] = (point.energy + correction) / len(structure)
            cells["max_force"] = largest_force(point)
            cells["correction_per_atom"] = mp2020_correction(structure) / len(structure)
            file.write(json.dumps(cells) + "\n")
            file.flush()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    columns = [
        *("material_id", "formula", "num_atoms", "split", "structure_source"),
        *("formation_energy_source", "formation_energy_per_atom", "e_above_hull"),
    ]
    return pd.DataFrame(rows).merge(labelled_compounds()[columns], on="material_id")


def judge(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Errors of a potential and their standard errors, eV/atom, by the error model of known ones.

    Returns:
        Columns `error` (potential minus table, offset included) and `std`.
    """
    calibrated, relaxer = calibrations()[name], calibrations()[RELAXER]
    rows = []
    for row in table.to_dict("records"):
        composition = Composition(row["formula"])
        elements = {element.symbol for element in composition}
        if not elements <= calibrated.references.keys() & relaxer.references.keys():
            rows.append({"error": np.nan, "std": np.nan})
            continue
        hull = row["formation_energy_per_atom"] - row["e_above_hull"]
        raw = calibrated.formation_energy(composition, row[name]) - hull
        other = relaxer.formation_energy(composition, row[RELAXER]) - hull
        model = calibrated.known.at(composition, error_traits(raw, other))
        rows.append({"error": raw + model.location - row["e_above_hull"], "std": model.std})
    return pd.DataFrame(rows, table.index)


def explain(row: pd.Series) -> str:
    """Class of an outlier of the decider."""
    if row.max_force > DAMAGED:
        return "damaged structure"
    if any(abs(row.error - shift) < SAME for shift in _second_anions(row.formula)):
        return "second anion"
    if abs(row.witness_error) < min(2 * row.witness_std, abs(row.error) / 2):
        return "potential"
    if row.formation_energy_source not in ("mp20", "mpts52"):
        return "energy in the table"
    return "both potentials"


def _second_anions(formula: str) -> list[float]:
    """Corrections that MP2020 has for elements beside the most electronegative, eV/atom, signed."""
    composition = Composition(formula)
    first = max(composition.elements, key=lambda element: element.X)
    return [
        composition.get_atomic_fraction(element) * PER_ATOM[element.symbol]
        for element in composition.elements
        if element != first and element.symbol in PER_ATOM
    ]


def page(table: pd.DataFrame) -> str:
    """The page in Markdown."""
    decided, witness = judge(table, DECIDER), judge(table, WITNESS)
    table = table.assign(
        error=decided.error,
        std=decided["std"],
        witness_error=witness.error,
        witness_std=witness["std"],
    ).dropna(subset=["error"])
    outliers = table[table.error.abs() > NUM_ERRORS * table["std"]]
    outliers = outliers.assign(kind=outliers.apply(explain, axis=1))
    outliers = outliers.sort_values(["kind", "formula"])
    within = (table.error.abs() < 2 * table["std"]).mean()
    lines = [
        "# Known compounds that are judged wrong",
        "",
        "<!-- written by scripts/judge_known_compounds.py -->",
        "",
        f"{len(table):,} embedded compounds, on the hull and within 0.1 eV/atom of it, from every",
        "source of formation energies, judged as they are by `7net-l3i5` with the error model that "
        "is",
        f"fitted to them. Mean absolute error {table.error.abs().mean():.3f} eV/atom (median "
        f"{table.error.abs().median():.3f}); {within:.1%} lie",
        f"within two standard errors, and {len(outliers)} more than three off:",
        "",
        "| class | compounds | what it is |",
        "|---|---|---|",
    ]
    for kind, text in CLASSES.items():
        lines.append(f"| {kind} | {(outliers.kind == kind).sum()} | {text} |")
    lines += [
        "",
        "Errors are energies above the hull by the potential less those of the table, eV/atom.",
        "",
        _HEADER + " class |",
        "|---|---|---|---|---|---|---|",
    ]
    reported = table[table.stratum == "reported"]
    lines += [_line(row, row.kind) for _, row in outliers.iterrows()]
    lines += [
        "",
        "Compounds that were reported as judged wrong, most stable structure in the table:",
        "",
        _HEADER + " standard errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, row in reported.sort_values("e_above_hull").drop_duplicates("formula").iterrows():
        lines.append(_line(row, f"{row.error / row['std']:.1f}"))
    return "\n".join([*lines, ""])


def _line(row: pd.Series, last: str) -> str:
    return (
        f"| {row.material_id} | {row.formula} | {row.formation_energy_source} | "
        f"{row.e_above_hull:.3f} | {row.error:+.3f} ± {row['std']:.3f} | "
        f"{row.witness_error:+.3f} ± {row.witness_std:.3f} | {last} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=Path, help="file of energies, one compound a line")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--nequix", type=Path, help="weights of nequix-oam-1")
    options = parser.parse_args()
    if options.measure:
        if options.nequix is None:
            parser.error("--measure needs --nequix: expected the weights of nequix-oam-1")
        table = measure(draw(options.num), options.measure, options.nequix)
        table.sort_values("material_id").to_parquet(TABLE, index=False)
    PAGE.write_text(page(pd.read_parquet(TABLE)), encoding="utf-8")


if __name__ == "__main__":
    main()
