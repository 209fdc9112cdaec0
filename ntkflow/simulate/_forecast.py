"""How much work each solver has ahead of it: a model of four numbers a solver.

Away from stability limits a solver that is true to its tolerance takes about as many
steps for every e-fold of training time, since what a gradient flow does happens on a
logarithmic scale of time; late in training somewhat fewer. What a step costs depends on
the solver: an explicit one is held to steps of a few 1/ρ, Chebyshev needs √(hρ) stages,
a kernel-space solver a kernel and a decomposition. Work is counted in evaluations of
the vector field.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._precision import at_full_precision
from ..flows import Packed
from ..kernels import plan
from ..problem import Problem
from ._solve import Solve

EXPLICIT, CHEBYSHEV, ROCK4 = "Dopri5", "Chebyshev", "Rock4"
IMPLICIT, EXPONENTIAL = "KernelImplicit", "KernelExponential"


class Pace(NamedTuple):
    """Steps that accuracy asks for.

    Attributes:
        steps: For every e-fold of training time at a relative tolerance of 1e-3.
        exponent: p, where they grow as rtol^(−p).
    """

    steps: float
    exponent: float

    def at(self, rtol: float) -> float:
        """Steps for every e-fold of training time.

        Args:
            rtol: Relative tolerance of the run.

        Returns:
            Their number.
        """
        return self.steps * (rtol / 1e-3) ** -self.exponent


PACES = {
    EXPLICIT: Pace(4.0, 0.1),
    CHEBYSHEV: Pace(10.0, 0.46),
    ROCK4: Pace(4.0, 0.2),
    IMPLICIT: Pace(4.0, 0.28),
    EXPONENTIAL: Pace(5.8, 0.4),
}
"""Measured on digits with tanh networks of width 64, rtol from 1e-2 to 1e-6."""

_EVALUATIONS = {EXPLICIT: 6.0, IMPLICIT: 12.0, EXPONENTIAL: 16.0}
"""Of a step, products with the network's Jacobian among them."""

_ROCK4 = 11.0
"""Evaluations for every e-fold at rtol 1e-3, over √(ρt)."""

_LATE, _FADES = 1e4, 0.3
"""ρt from which on accuracy asks for fewer steps, as (ρt)^(−0.3); measured likewise."""

_REACH = 3.3
"""hρ at which steps of the explicit method settle."""

_CHOLESKY, _EIGEN = 0.85, 6.2
"""Operations over (N·K)³, at the speed a gradient's have: LAPACK on a CPU."""

_DISPATCH = 1e6
"""Operations that could be done while an evaluation is being started."""

_DECOMPOSITIONS = 0.7
"""Made by the exponential solver for every e-fold, where the kernel moves."""

_LAZY_STEPS = 12
"""Steps it takes for a whole run where the kernel hardly moves."""


class Prices(NamedTuple):
    """What things cost, in evaluations of the vector field.

    Attributes:
        evaluation: Operations of one evaluation, to turn evaluations into those.
        kernel: One kernel.
        cholesky: The Cholesky decomposition of one.
        eigen: The eigendecomposition of one.
        moving: Kernels that move with the parameters.
        all: Kernels in all.
    """

    evaluation: float
    kernel: float
    cholesky: float
    eigen: float
    moving: int
    all: int


class Stand(NamedTuple):
    """Where a solve stands.

    Attributes:
        t: Training time.
        end: Training time at its end.
        rho: The spectral radius of its Jacobian, in units of 1/time.
        decay: q, where ρ has been falling as t^(−q).
        rtol: Relative tolerance.
    """

    t: float
    end: float
    rho: float
    decay: float
    rtol: float


# Nothing of it is computed when it runs: all is found out while it is traced, which
# JAX does once for all runs of the same shapes.
@eqx.filter_jit
@at_full_precision
def price(solve: Solve, problem: Problem, constants: dict, y: Packed) -> Prices:
    """Counts operations, so that equal runs are priced equally; nothing is timed.

    Args:
        solve: The solve.
        problem: The problem.
        constants: From `Coupled.prepare`.
        y: A packed state; its values do not matter.

    Returns:
        What things cost.
    """
    arrays, rest = eqx.partition((solve, problem, constants, y), eqx.is_array)

    def evaluate(arrays: Any) -> Packed:
        solve, problem, constants, y = eqx.combine(arrays, rest)
        return solve.terms(problem, constants).vf(0.0, y, None)

    shapes = jax.eval_shape(lambda arrays: arrays, arrays)
    counted = jax.jit(evaluate).lower(shapes).cost_analysis() or {}
    evaluation = float(counted.get("flops", 0.0)) + _DISPATCH
    size = problem.n_examples * problem.n_outputs
    coupled = solve.coupled
    moving = len(coupled.parameter_flows)
    kept = any(flow.reads_origin for flow in coupled.flows)
    built = plan(
        problem.model, problem.x, outputs="full", trainable=problem.trainable
    ).flops
    return Prices(
        evaluation,
        built / evaluation,
        _CHOLESKY * size**3 / evaluation,
        _EIGEN * size**3 / evaluation,
        moving,
        moving + kept,
    )


def forecast(name: str, stand: Stand, prices: Prices) -> float:
    """The work a solver has ahead of it.

    Args:
        name: The solver.
        stand: Where the solve stands.
        prices: What things cost.

    Returns:
        Evaluations of the vector field.
    """
    # Before 1/ρ nothing happens; the last e-fold is never empty.
    start = max(stand.t, min(1 / stand.rho, stand.end / np.e) if stand.rho > 0 else 0)
    start = min(max(start, 1e-12 * stand.end), stand.end / 1.1)
    log_t = np.linspace(np.log(start), np.log(stand.end), 64)
    t = np.exp(log_t)
    rho = stand.rho * (t / max(stand.t, start)) ** -stand.decay
    steps = PACES[name].at(stand.rtol) * np.maximum(1, rho * t / _LATE) ** -_FADES
    if name == EXPLICIT:
        rate = _EVALUATIONS[name] * np.maximum(steps, rho * t / _REACH)
    elif name == CHEBYSHEV:
        rate = steps * np.maximum(2.0, np.sqrt(1.54 * rho * t / steps + 1))
    elif name == ROCK4:
        # Its last stages keep rounding and stiff residues from decaying, which cuts
        # its steps: what is measured is the sum, not the steps.
        stiff = _ROCK4 * (1e-3 / stand.rtol) ** 0.11 * np.sqrt(rho * t)
        rate = np.maximum(5 * steps, stiff)
    elif name == IMPLICIT:
        kernels = prices.moving * prices.kernel + prices.all * prices.cholesky
        rate = steps * (_EVALUATIONS[name] + kernels)
    else:
        fresh = _DECOMPOSITIONS * prices.moving * (prices.kernel + prices.eigen)
        rate = steps * _EVALUATIONS[name] + fresh
    return float(np.trapezoid(rate, log_t))


def forecast_lazy(prices: Prices) -> float:
    """The work of the exponential solver where the kernel hardly moves.

    Args:
        prices: What things cost.

    Returns:
        Evaluations of the vector field.
    """
    once = prices.all * (prices.kernel + prices.eigen)
    return 1.5 * once + _LAZY_STEPS * _EVALUATIONS[EXPONENTIAL]
