"""Chooses the steps of a relaxation by a quasi-Newton method.

BFGS (Nocedal & Wright, Numerical Optimization, 2006, eq. 6.19) on the Hessian itself, whose
eigenvalues are replaced by their absolute values, as in ASE's `BFGS`. A step that raises the energy
is taken back and made shorter.

The Hessian is a multiple of the identity but for two columns a step. Of large cells only what the K
columns so far span is diagonalised: D K² operations for D coordinates instead of D³, as exact.
"""

from dataclasses import dataclass, field

import numpy as np

from mattergen_lite.tensors.shapes import Float

INITIAL_CURVATURE = 10.0  # eV/Å², of every degree of freedom before anything is known
MIN_CURVATURE = 0.5  # eV/Å²; softer directions are followed as if they were so stiff
MAX_MATRIX = 1500  # coordinates up to which the Hessian is held as a matrix
MAX_STEP = 0.2  # Å, of any atom
MIN_STEP = 1e-3  # Å; if so short a step raises the energy, the forces are not its gradient
MAX_RISE = 1e-3  # eV per row; less is the scatter of single precision


def cell_scale(num_atoms: int) -> float:
    """Å by which the logarithm of the deformation is multiplied to stand beside positions.

    An elastic constant of 100 GPa is about 10 eV an atom: sqrt(N) Å gives the cell of N atoms the
    curvature of an atom's position.
    """
    return num_atoms**0.5


@dataclass(frozen=True)
class _Point:
    """What is known of one place."""

    position: Float[np.ndarray, "D"]
    energy: float
    force: Float[np.ndarray, "D"]


class _Matrix:
    """A Hessian as a matrix."""

    def __init__(self, size: int) -> None:
        self.matrix = INITIAL_CURVATURE * np.eye(size)

    def times(self, vector: Float[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
        return self.matrix @ vector

    def add(self, column: Float[np.ndarray, "D"], divisor: float) -> None:
        """H += u uᵀ / divisor."""
        self.matrix = self.matrix + np.outer(column, column) / divisor

    def newton_step(self, force: Float[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
        """|H|⁻¹ force."""
        curvature, modes = np.linalg.eigh(self.matrix)
        return modes @ ((force @ modes) / _stiffened(curvature))


class _Columns:
    """The same Hessian as what was added to it: c 1 + U diag(1 / divisors) Uᵀ."""

    def __init__(self, size: int) -> None:
        self.columns = np.empty((size, 0))
        self.divisors = np.empty(0)

    def times(self, vector: Float[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
        added = self.columns @ ((self.columns.T @ vector) / self.divisors)
        return INITIAL_CURVATURE * vector + added

    def add(self, column: Float[np.ndarray, "D"], divisor: float) -> None:
        self.columns = np.column_stack([self.columns, column])
        self.divisors = np.append(self.divisors, divisor)

    def newton_step(self, force: Float[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
        """With U = Q R: by eigenvectors of R diag(1 / divisors) Rᵀ, and by c beside them."""
        basis, triangle = np.linalg.qr(self.columns)
        added, turn = np.linalg.eigh((triangle / self.divisors) @ triangle.T)
        modes = basis @ turn
        inside = force @ modes
        beside = (force - modes @ inside) / INITIAL_CURVATURE
        return modes @ (inside / _stiffened(INITIAL_CURVATURE + added)) + beside


def _stiffened(curvature: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
    return np.maximum(np.abs(curvature), MIN_CURVATURE)


@dataclass
class QuasiNewton:
    """Positions to try next, from the curvature that earlier ones have shown."""

    _radius: float = field(default=MAX_STEP, init=False)  # Å, longest step at present
    _best: _Point | None = field(default=None, init=False)  # where the last accepted step led
    _hessian: _Matrix | _Columns | None = field(default=None, init=False)

    def step(
        self,
        position: Float[np.ndarray, "M 3"],
        energy: float,
        forces: Float[np.ndarray, "M 3"],
    ) -> Float[np.ndarray, "M 3"]:
        """The next position, from the energy in eV and the forces in eV/Å at the present one.

        Raises:
            ValueError: If the energy rises along the forces, however short the step.
        """
        here = _Point(position.ravel(), energy, forces.ravel())
        if self._best is None:
            kind = _Matrix if position.size <= MAX_MATRIX else _Columns
            self._best, self._hessian = here, kind(position.size)
        else:
            self._learn(self._best, here)
            if energy <= self._best.energy + MAX_RISE * len(position):
                self._best, self._radius = here, min(1.5 * self._radius, MAX_STEP)
            else:
                self._shorten()
        step = self._hessian.newton_step(self._best.force)
        longest = np.linalg.norm(step.reshape(-1, 3), axis=1).max()
        step *= min(1.0, self._radius / max(longest, 1e-12))
        return (self._best.position + step).reshape(position.shape)

    def _shorten(self) -> None:
        self._radius /= 3
        if self._radius < MIN_STEP:
            raise ValueError("the energy rises along the forces")

    def _learn(self, before: _Point, after: _Point) -> None:
        """H += y yᵀ / (yᵀ s) - H s (H s)ᵀ / (sᵀ H s), for a step s and the fall y of the force."""
        step, fall = after.position - before.position, before.force - after.force
        expected = self._hessian.times(step)
        if min(abs(fall @ step), abs(step @ expected)) < 1e-10:  # nothing to divide by
            return
        self._hessian.add(fall, fall @ step)
        self._hessian.add(expected, -(step @ expected))
