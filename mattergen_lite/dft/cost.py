"""Cost of a calculation, estimated before it starts.

Fourier transforms of every band at every k point dominate small crystals: the time grows with k
points, bands and the grid. Of 307 calculations, most of them on busy cores, 90% took 0.71 to 1.78
times the estimate (median 1.11); five on an idle core took 0.54 to 1.14 times.
"""

from collections.abc import Iterable, Mapping
from math import ceil

import numpy as np
from ase.data import chemical_symbols

from mattergen_lite.dft.cells import PlaneWaveCell

START = 3.0  # core s: loading the program, setups, the first density
PER_TRANSFORM = 8.5e-7  # core s per k point, band and grid point, all iterations together
PER_BAND_PAIR = 4.2e-8  # core s per k point, pair of bands and grid point: orthogonalisation
SPIN = 3.0  # two densities, and more iterations; 2.7 to 4 times the paired start (FeCo, CoAl, NiAl)
FEWEST, MOST = 0.5, 1.8  # core seconds over their estimate


def estimate_seconds(
    cell: PlaneWaveCell, valence: Mapping[str, int], *, is_polarised: bool
) -> float:
    """Core seconds of a calculation, from the valence electrons of every element."""
    electrons = count_electrons(cell.numbers.tolist(), valence)
    bands = count_bands(electrons)
    points = float(np.prod(cell.grid))
    transforms = cell.num_irreducible * bands * points
    seconds = START + PER_TRANSFORM * transforms + PER_BAND_PAIR * transforms * bands
    return seconds * (SPIN if is_polarised else 1.0)


def count_bands(electrons: int | float) -> int:
    """Bands with room for smearing; GPAW's default is too few for alkali and alkaline earths."""
    return ceil(0.6 * electrons) + 4


def count_electrons(numbers: Iterable[int], valence: Mapping[str, int]) -> int:
    """Valence electrons of a cell."""
    return sum(valence[chemical_symbols[number]] for number in numbers)
