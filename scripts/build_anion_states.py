"""Count the oxidation states of each element beside each anion in stable known compounds.

    python scripts/build_anion_states.py

Judges the charges of every embedded compound on the hull, with states that the ICSD reports alone,
and writes `assets/anion_states.json`: the number of compounds by anion, element and state, and by
anion cluster. It takes two minutes of a core.
"""

import json
from collections import Counter, defaultdict

from tqdm import tqdm

from mattergen_lite.chemistry.oxidation import ASSET
from mattergen_lite.data.materials import labelled_compounds, row_structure
from mattergen_lite.scoring.criteria.neutrality import neutrality

STABLE = 0.005  # eV/atom above the hull


def main() -> None:
    """Judge, count and write."""
    rows = labelled_compounds()
    rows = rows[rows.e_above_hull <= STABLE]
    states: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    clusters: Counter = Counter()
    ASSET.write_text('{"states": {}, "clusters": {}}', encoding="utf-8")
    for row in tqdm(rows.to_dict("records")):
        judged = neutrality(row_structure(row))
        if judged.charge_verdict != "neutral" or not judged.oxidation_states:
            continue
        species = [split_species(text) for text in judged.oxidation_states.split()]
        for anion in {symbol for symbol, state in species if state.startswith("-")}:
            for symbol, state in species:
                if state.startswith("+"):
                    states[anion][symbol][state[1:]] += 1
        clusters.update(text for text in judged.anion_clusters.split("; ") if text)
    kept = {
        anion: {symbol: dict(sorted(counts.items())) for symbol, counts in sorted(of.items())}
        for anion, of in sorted(states.items())
    }
    data = {"states": kept, "clusters": dict(sorted(clusters.items()))}
    text = json.dumps(data, separators=(",", ":")) + "\n"
    ASSET.write_text(text, encoding="utf-8")


def split_species(text: str) -> tuple[str, str]:
    """Split "Fe+3" into element and state."""
    symbol = text.rstrip("+-/0123456789")
    return symbol, text[len(symbol) :]


if __name__ == "__main__":
    main()
