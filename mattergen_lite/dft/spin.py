"""Starting moments of crystals that may be magnetic."""

from collections.abc import Sequence

from ase.data import chemical_symbols

# µB of a high-spin start; only metals whose compounds without U can be magnetic. The elements with
# open f shells are refused, those of the second and third row stay paired in compounds.
HIGH_SPIN = {"V": 2.0, "Cr": 3.0, "Mn": 4.0, "Fe": 3.0, "Co": 2.0, "Ni": 1.0}


def starting_moments(numbers: Sequence[int]) -> list[tuple[float, ...] | None]:
    """Starts to try, of which the lowest energy counts: paired spins, then ferromagnetic."""
    moments = tuple(HIGH_SPIN.get(chemical_symbols[number], 0.0) for number in numbers)
    return [None, moments] if any(moments) else [None]
