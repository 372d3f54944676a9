"""Write `assets/exams.json`: the entrance exams of the potentials whose weights are in wheels.

python scripts/build_exams.py
"""

import json
from dataclasses import asdict
from pathlib import Path

from mattergen_lite.scoring.energy.potentials.exam import examine
from mattergen_lite.scoring.energy.potentials.sources import (
    SHIPPED,
    family_version,
    load_potential,
)

PATH = Path(__file__).parents[1] / "mattergen_lite" / "assets" / "exams.json"


def rounded(value: object) -> object:
    """Plain data with numbers to 0.1 meV."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Examine and write."""
    exams = {}
    for name in SHIPPED:
        exam = examine(load_potential(name))
        print(exam.text())
        exam.check()
        exams[f"{name} {family_version(name)}"] = rounded(asdict(exam))
    PATH.write_text(json.dumps(exams, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
