"""Write `assets/acceptance_tests.json`, for the potentials whose weights are in wheels.

python scripts/build_acceptance_tests.py nequix:nequix-oam-1.nqx

Those of files of weights that the package knows by their hash are added, if they are given.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mattergen_lite.scoring.energy.potentials.acceptance_test import (
    acceptance_key,
    identified,
    run_acceptance_test,
)
from mattergen_lite.scoring.energy.potentials.sources import (
    SHIPPED,
    load_potential,
)

PATH = Path(__file__).parents[1] / "mattergen_lite" / "assets" / "acceptance_tests.json"


def rounded(value: object) -> object:
    """Plain data with numbers to 0.1 meV."""
    if isinstance(value, dict):
        return {key: rounded(cell) for key, cell in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Examine and write."""
    acceptances = {}
    for source in map(identified, (*SHIPPED, *sys.argv[1:])):
        acceptance = run_acceptance_test(load_potential(source))
        print(acceptance)
        acceptance.check()
        acceptances[acceptance_key(source)] = rounded(asdict(acceptance))
    PATH.write_text(json.dumps(acceptances, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
