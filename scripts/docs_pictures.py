"""Pictures of the documentation, drawn from the package's own functions.

    python scripts/docs_pictures.py

writes them into docs/images.
"""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from pymatgen.core import Composition, Lattice, Structure
from scipy.stats import t as student_t

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER
from mattergen_lite.data.describe import describe
from mattergen_lite.diffusion import atom_types
from mattergen_lite.diffusion.joint import draw_noise
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.runs.phase_diagram import draw_phase_diagram
from mattergen_lite.sampling.trajectory import Trajectory, draw_crystal, draw_settling, draw_strip
from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.scoring.energy.calibration import DEGREES_OF_FREEDOM, calibrations
from mattergen_lite.symmetry.orbits import find_orbits
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.geometry import wrapped_normal_displacement

SYSTEM = ("Li", "P", "S")
COMPOSITION = "Li3PS4"  # of the calibration picture
DOTS_PER_INCH = 110


def pictures(model: CrystalDiffusion) -> dict[str, bytes]:
    """All pictures as PNG by file name."""
    trajectory = Trajectory.of_sample(model, 0)
    draw: dict[str, Callable[[], Figure]] = {
        "noise.png": lambda: _noise(model),
        "schedule.png": lambda: _schedule(model),
        "wrapped.png": _wrapped,
        "types.png": lambda: _types(model),
        "trajectory.png": lambda: draw_strip(trajectory),
        "settling.png": lambda: draw_settling(trajectory),
        "calibration.png": _calibration,
        "phase_diagram.png": lambda: draw_phase_diagram(SYSTEM),
        "data.png": lambda: describe("embedded").draw(),
    }
    style = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    with matplotlib.rc_context(style | {"font.size": 9}):
        return {name: _png(picture()) for name, picture in draw.items()}


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()


def _noise(model: CrystalDiffusion) -> Figure:
    """Rutile at five noise levels."""
    sites = [[0, 0, 0], [0.305, 0.305, 0]]
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], sites
    )
    orbits = find_orbits(np.array(rutile.atomic_numbers), rutile.frac_coords, rutile.lattice.matrix)
    crystal = OrbitCrystals.of([orbits])
    clean, templates = model.diffusion.encode(crystal), crystal.templates
    normal = draw_noise(templates, torch.Generator().manual_seed(0))
    noise = model.diffusion.noise(normal, templates)
    levels = (0.0, 0.02, 0.1, 0.3, 1.0)
    figure = Figure(figsize=(2.1 * len(levels), 2.4), layout="constrained")
    for place, sigma in enumerate(levels, start=1):
        axes = figure.add_subplot(1, len(levels), place, projection="3d")
        noisy = model.diffusion.corrupt(clean, torch.tensor([sigma]), noise)
        draw_crystal(axes, model.diffusion.decode(noisy, templates).expand())
        axes.set_title(f"sigma {sigma:g}")
    return figure


def _schedule(model: CrystalDiffusion) -> Figure:
    """Where training looks and where sampling goes."""
    schedule = model.schedule
    figure = Figure(figsize=(7.6, 2.6), layout="constrained")
    drawn, walked = figure.subplots(1, 2)
    levels = schedule.draw(4096, torch.Generator().manual_seed(0)).numpy()
    drawn.hist(levels, bins=np.geomspace(levels.min(), levels.max(), 40), color="#0072b2")
    drawn.set(xscale="log", xlabel="sigma", ylabel="crystals of 4,096", title="training")
    for steps in (20, 50):
        walked.semilogy(schedule.grid(steps)[:-1], ".-", label=f"{steps} steps")
    walked.set(xlabel="step", ylabel="sigma", title="sampling")
    walked.legend()
    return figure


def _wrapped() -> Figure:
    """The regression target of the coordinates."""
    distance = torch.linspace(-0.5, 0.5, 401)
    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    axes = figure.subplots()
    for sigma in (0.02, 0.1, 0.2, 0.3, 0.5):
        target = wrapped_normal_displacement(distance, torch.full_like(distance, sigma))
        axes.plot(distance, target, label=f"{sigma:g}")
    axes.set(xlabel="clean minus noisy coordinate", ylabel="posterior mean displacement")
    axes.legend(title="sigma")
    return figure


def _types(model: CrystalDiffusion) -> Figure:
    """Posterior of the true element from an atom's own noisy vector."""
    allowed = model.diffusion.allowed_elements
    numbers = torch.arange(MAX_ATOMIC_NUMBER + 1)[allowed][None]
    clean, rng = atom_types.encode(numbers), torch.Generator().manual_seed(0)
    levels = np.geomspace(0.02, 3.0, 30)
    means = []
    for sigma in torch.tensor(levels, dtype=torch.float32):
        noisy = clean + sigma * torch.randn(64, *clean.shape[1:], generator=rng)
        flat = torch.zeros(*noisy.shape[:2], len(allowed))
        logits = atom_types.posterior_logits(flat, noisy, sigma.expand(64), allowed)
        true = numbers.expand(64, -1).unsqueeze(-1)
        means.append(torch.softmax(logits, -1).gather(-1, true).mean())
    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(levels, means, color="#0072b2")
    axes.axhline(1 / int(allowed.sum()), color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="sigma", ylabel="posterior of the true element", ylim=(0, 1.03))
    return figure


def _calibration() -> Figure:
    """Error models of the potentials for crystals that nobody has computed."""
    figure = Figure(figsize=(7.6, 2.8), layout="constrained")
    errors, verdicts = figure.subplots(1, 2)
    difference, raw = np.linspace(-0.3, 0.6, 400), np.linspace(-0.3, 0.3, 400)
    for name, fitted in calibrations().items():
        model = fitted.novel.at(Composition(COMPOSITION))
        density = student_t.pdf(
            difference, DEGREES_OF_FREEDOM, loc=model.location, scale=model.scale
        )
        errors.plot(difference, density, label=name)
        verdicts.plot(raw, [model.probability_below(METASTABLE, value) for value in raw])
    errors.set(xlabel=f"DFT minus potential, {COMPOSITION} (eV/atom)", ylabel="density")
    errors.legend()
    verdicts.axvline(METASTABLE, color="grey", linewidth=0.8, linestyle="--")
    verdicts.set(xlabel="e_above_hull_raw (eV/atom)", ylabel="probability_metastable", ylim=(0, 1))
    return figure


if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "docs" / "images"
    for name, content in pictures(CrystalDiffusion.load(find_checkpoint("mp"))).items():
        (folder / name).write_bytes(content)
