"""Elements that must occur, put on the orbits of a template."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from mattergen_lite.chemistry.elements import element_descriptors
from mattergen_lite.tensors.shapes import Int


def match_elements(
    classes: Counter[int], wanted: Counter[int], complete: bool
) -> tuple[dict[int, int], float] | None:
    """Which element of a known crystal each wanted one replaces, resembling it as much as can be.

    Args:
        classes: Atoms of each element of the known crystal.
        wanted: Fewest atoms of each wanted element; if complete, their numbers, and no others.
        complete: Whether the wanted elements are all there is.

    Returns:
        Replacements and mean dissimilarity over the replaced atoms; None if they do not fit.
    """
    from scipy.optimize import linear_sum_assignment

    if len(wanted) > len(classes) or (complete and len(wanted) != len(classes)):
        return None
    old, new = list(classes), list(wanted)
    descriptors = element_descriptors().numpy()
    cost = 1 - descriptors[new] @ descriptors[old].T
    sizes = np.array([classes[number] for number in old])
    fewest = np.array([wanted[number] for number in new])[:, None]
    cost = np.where(fewest == sizes if complete else fewest <= sizes, cost, 1e6)
    rows, columns = linear_sum_assignment(cost * sizes)
    if cost[rows, columns].max() >= 1e6:
        return None
    total = (cost * sizes)[rows, columns].sum() / sizes[columns].sum()
    return {old[c]: new[r] for r, c in zip(rows, columns, strict=True)}, float(total)


def place_on_orbits(
    sizes: Int[np.ndarray, "O"], wanted: Counter[int], complete: bool, rng: torch.Generator
) -> tuple[int, ...] | None:
    """An element for every orbit at random, 0 where open; None if the wanted ones do not fit.

    If complete, the sizes of each element's orbits add up to what is wanted of it; otherwise to at
    least as much, and orbits that are not needed stay open.
    """
    order = torch.randperm(len(sizes), generator=rng).tolist()
    if not complete:
        placed = {}
        for number in sorted(wanted):
            while wanted[number] > sum(sizes[orbit] for orbit in placed if placed[orbit] == number):
                if len(placed) == len(sizes):
                    return None
                placed[order[len(placed)]] = number
        return tuple(placed.get(orbit, 0) for orbit in range(len(sizes)))
    order.sort(key=lambda orbit: -sizes[orbit])
    shares = share_out([int(sizes[orbit]) for orbit in order], wanted, rng)
    if shares is None:
        return None
    placed = dict(zip(order, shares, strict=True))
    return tuple(placed[orbit] for orbit in range(len(sizes)))


def share_out(sizes: Sequence[int], room: Counter[int], rng: torch.Generator) -> list[int] | None:
    """An element for every orbit so that each element's sizes add up to its room; largest first.

    A random search that never enters a state (orbits left, room left) twice: without that, a
    formula that does not fit takes time exponential in the number of orbits.
    """
    elements = sorted(room)
    dead: set[tuple[int, tuple[int, ...]]] = set()

    def search(place: int, left: tuple[int, ...]) -> list[int] | None:
        if place == len(sizes):
            return [] if not any(left) else None
        if (place, left) in dead:
            return None
        fitting = [index for index, count in enumerate(left) if count >= sizes[place]]
        for drawn in torch.randperm(len(fitting), generator=rng).tolist():
            index = fitting[drawn]
            taken = left[index] - sizes[place]
            rest = search(place + 1, (*left[:index], taken, *left[index + 1 :]))
            if rest is not None:
                return [elements[index], *rest]
        dead.add((place, left))
        return None

    return search(0, tuple(room[element] for element in elements))
