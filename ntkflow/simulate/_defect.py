"""How far the residual equation is from the network, the solve in depth included."""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from .._precision import at_full_precision
from .._types import Params
from ..models import tightened
from ..problem import Problem
from ._trajectory import Trajectory


class Defect(NamedTuple):
    """The residual equation's outputs against the network's, at every save time.

    Attributes:
        same: Against the network as it was trained, with the same solve in depth: the
            error of integrating in training time. If that solve adapts its steps, also
            what comes of steps that change along training, which derivatives hold.
        tight: Against the network with a tighter solve in depth: that, and the error
            of the solve itself, to which the first is blind.
    """

    same: Float[np.ndarray, " T"]
    tight: Float[np.ndarray, " T"]


def residual_defect(
    problem: Problem, run: Trajectory, factor: float | int = 100.0
) -> Defect:
    """The defect of the residual equation of a Neural ODE in training.

    The residual equation with the evolving kernel gives the outputs of the network
    itself. That it does is a check of both integrations, if the network is evaluated
    by a solve that neither of them has used.

    Args:
        problem: The problem.
        run: Its run, with the flows `Gradient()`, which is measured, and
            `Residual("evolving")`.
        factor: How much tighter the second solve in depth is; above 1.

    Returns:
        Root mean squares over training examples and outputs, in units of the larger
        of those of the network's outputs and of its outputs at the start.

    Raises:
        ValueError: If the run has no such flows or is an ensemble, `factor` is not
            above 1, no tolerance is found in the model, or the tighter one is below
            what the precision holds.

    Verified by:
        tests/simulate/test_neural_ode.py::test_defect_sees_the_solve_in_depth
    """
    flows = run.dataset["flow"].values.tolist()
    names = dict(zip(run.dataset["flow_kind"].values.tolist(), flows, strict=True))
    network = names.get("gradient")
    wanted = {"gradient", "residual_evolving"} <= names.keys()
    measured = run.dataset.attrs["measured_on"] == network
    if "seed" in run.dataset.dims or not (wanted and measured):
        raise ValueError(
            "residual_defect takes a single run of nf.flows.Gradient(), the first of "
            f'its flows, and nf.flows.Residual("evolving"), got one of {flows}'
            + (" over seeds." if "seed" in run.dataset.dims else ".")
        )
    if not factor > 1:
        raise ValueError(f"factor must be above 1, such as 100, got {factor}.")

    @eqx.filter_jit
    @at_full_precision
    def outputs(params: Params) -> Float[Array, "N K"]:
        model = tightened(
            problem.model_of(params), factor, problem.dtype, problem.dtype
        )
        return jax.vmap(model)(problem.x)

    f = run.dataset["f_train"].sel(flow=network).to_numpy()
    r = run.dataset["f_train"].sel(flow=names["residual_evolving"]).to_numpy()
    models = (run.model_at(i) for i in range(len(f)))
    exact = np.stack([
        outputs(eqx.partition(model, problem.trainable)[0]) for model in models
    ])
    start = np.asarray(problem.outputs(problem.params, problem.x))
    size = np.maximum(_rms(f), _rms(start[None]))
    return Defect(_rms(r - f) / size, _rms(r - exact) / size)


def _rms(outputs: np.ndarray) -> Float[np.ndarray, " T"]:
    return np.sqrt(np.mean(outputs**2, axis=(1, 2)))
