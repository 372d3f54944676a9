"""Draws how a crystal forms from noise, as a strip of states and as a GIF.

matplotlib's `Figure` is used without pyplot: no window, no list of open figures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from mattergen_lite.io.tensors import to_structures
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.sampling.sampler import Target, follow
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.tensors.geometry import cell_volume, wrap_difference

_CORNERS = np.array(list(np.ndindex(2, 2, 2)))
_EDGES = [(a, b) for a in _CORNERS for b in _CORNERS if (b - a).sum() == 1 and (b - a).min() == 0]
DOTS_PER_INCH = 80  # of the animation: a film for a web page


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One sample after each of K steps, from the noise that it starts from to the result."""

    sigmas: tuple[float, ...]  # noise level of each state; the last is 0
    states: tuple[CrystalBatch, ...]  # K batches of one crystal

    @classmethod
    def of_sample(
        cls,
        model: CrystalDiffusion,
        index: int,
        *,
        seed: int = 0,
        options: SamplerOptions | None = None,
        target: Target | None = None,
    ) -> "Trajectory":
        """Make a sample again, `generate --first-sample index`, and keep every state.

        Raises:
            ValueError: If the model cannot fulfil the constraints.
        """
        options, target = options or SamplerOptions(), target or Target()
        states = tuple(follow(model, index, seed=seed, options=options, target=target))
        levels = model.schedule.grid(options.steps).tolist()
        return cls(sigmas=tuple(levels[-len(states) :]), states=states)

    def volumes_per_atom(self) -> list[float]:
        """Å³, of every state."""
        return [(cell_volume(s.lattice) / s.num_atoms).item() for s in self.states]

    def wrong_elements(self) -> list[int]:
        """How many atoms have another element than in the result, of every state."""
        final = self.states[-1].atomic_numbers
        return [int((state.atomic_numbers != final).sum()) for state in self.states]

    def distances(self) -> list[float]:
        """Root mean square distance of the atoms from where they end, in cell fractions.

        A shift common to all atoms means nothing in a crystal and is taken out.
        """
        return [_distance(state, self.states[-1]) for state in self.states]


def _distance(state: CrystalBatch, result: CrystalBatch) -> float:
    turns = torch.exp(2j * torch.pi * (state.frac_coords - result.frac_coords)[0])
    drift = turns.sum(0).angle() / (2 * torch.pi)
    apart = wrap_difference((state.frac_coords - result.frac_coords)[0] - drift)
    return apart.square().sum(-1).mean().sqrt().item()


def draw_crystal(axes: Axes3D, crystal: CrystalBatch) -> None:
    """Draw a batch of one crystal: edges of its cell, atoms in usual colours by covalent radius."""
    (structure,) = to_structures(crystal)
    lattice, numbers = structure.lattice.matrix, list(structure.atomic_numbers)
    axes.clear()
    for edge in _EDGES:
        axes.plot(*(np.array(edge) @ lattice).T, color="grey", linewidth=0.8)
    axes.scatter(
        *structure.cart_coords.T,
        s=150 * covalent_radii[numbers],
        c=jmol_colors[numbers],
        edgecolors="black",
        linewidths=0.6,
        alpha=1,
    )
    axes.set_box_aspect(np.ptp(_CORNERS @ lattice, axis=0))
    axes.set_axis_off()


def draw_strip(trajectory: Trajectory, num_shown: int = 6) -> Figure:
    """Some of the states side by side, evenly spaced in steps, first and last among them.

    Raises:
        ValueError: If fewer than two states are to be shown.
    """
    if num_shown < 2:
        raise ValueError(f"num_shown is {num_shown}: expected at least 2")
    shown = np.linspace(0, len(trajectory.states) - 1, num_shown).astype(int).tolist()
    figure = Figure(figsize=(2.1 * num_shown, 2.6), layout="constrained")
    for place, k in enumerate(shown, start=1):
        axes = figure.add_subplot(1, num_shown, place, projection="3d")
        _draw_state(axes, trajectory, k)
    return figure


def _draw_state(axes: Axes3D, trajectory: Trajectory, k: int) -> None:
    state = trajectory.states[k]
    draw_crystal(axes, state)
    volume = cell_volume(state.lattice).item()
    axes.set_title(
        f"step {k + 1}, sigma {trajectory.sigmas[k]:.2g}\ncell {volume:.3g} Å³", fontsize=9
    )


def draw_settling(trajectory: Trajectory) -> Figure:
    """Volume, elements and positions against the step: each settles at a noise level of its own."""
    figure = Figure(figsize=(9.6, 2.6), layout="constrained")
    volume, elements, positions = figure.subplots(1, 3)
    steps = range(1, len(trajectory.states) + 1)
    volume.semilogy(steps, trajectory.volumes_per_atom())
    volume.set(xlabel="step", ylabel="volume (Å³ per atom)")
    elements.step(steps, trajectory.wrong_elements(), where="mid")
    elements.set(xlabel="step", ylabel="atoms of another element")
    positions.plot(steps, trajectory.distances())
    positions.set(xlabel="step", ylabel="distance to result (fractional)")
    return figure


def write_gif(path: Path, trajectory: Trajectory, *, frames_per_second: int = 10) -> None:
    """Write the denoising as an animation that rests on the result for a second, then repeats.

    Raises:
        ValueError: If the file is not named .gif.
    """
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{path} is not named .gif, the one format that is written")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(3.2, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(figure, str(path), DOTS_PER_INCH):
        last = len(trajectory.states) - 1
        for k in [*range(last + 1), *[last] * frames_per_second]:
            _draw_state(axes, trajectory, k)
            writer.grab_frame()
