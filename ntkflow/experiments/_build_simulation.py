"""From a description to the flows, the measures and the solver that it names."""

import math
from collections.abc import Callable

import diffrax as dfx
import numpy as np

from .. import measures as measures_room, solvers as solvers_room
from .._types import SolverName
from ..flows import (
    AbstractFlow,
    Descent,
    Gradient,
    Linearized,
    Modified,
    Momentum,
    Residual,
)
from ..measures import AbstractMeasure
from ._description import Experiment
from ._simulation import Simulation
from ._solver import Solver

_TRACE = "_trace"
"""What ends the name of a measure of the trace kernel, the sum over outputs."""

_MEASURES: dict[str, Callable[..., AbstractMeasure]] = {
    "kernel_drift": measures_room.KernelDrift,
    "kernel_distance": measures_room.KernelDistance,
    "kernel_velocity": measures_room.KernelVelocity,
    "alignment": measures_room.Alignment,
    "spectrum": measures_room.Spectrum,
    "effective_rank": measures_room.EffectiveRank,
    "modes": measures_room.Modes,
    "parameter_distance": measures_room.ParameterDistance,
    "linearization_gap": measures_room.LinearizationGap,
    "energy_defect": measures_room.EnergyDefect,
    "conservation": measures_room.Conservation,
    "lambda_min": measures_room.LambdaMin,
    "kernel_step": measures_room.KernelStep,
    "kernel_regression": measures_room.KernelRegression,
    "sharpness": measures_room.Sharpness,
}

_SOLVERS: dict[str, Callable[..., dfx.AbstractSolver]] = {
    "tsit5": dfx.Tsit5,
    "dopri5": dfx.Dopri5,
    "dopri8": dfx.Dopri8,
    "chebyshev": solvers_room.Chebyshev,
    "rock4": solvers_room.Rock4,
    "kernel_implicit": solvers_room.KernelImplicit,
    "kernel_exponential": solvers_room.KernelExponential,
    "descent": solvers_room.Descent,
}


def build_flows(experiment: Experiment, n_examples: int) -> list[AbstractFlow]:
    """Makes the flows.

    Args:
        experiment: The description.
        n_examples: Number of training examples, which batches are drawn from.

    Returns:
        One flow a name.
    """
    make: dict[str, Callable[[], AbstractFlow]] = {
        "gradient": Gradient,
        "residual_evolving": lambda: Residual("evolving"),
        "residual_frozen": lambda: Residual("frozen"),
        "linearized": Linearized,
        "momentum": lambda: Momentum(experiment.simulation.damping),
        "descent": lambda: _build_descent(experiment, n_examples),
        "modified": lambda: Modified(_build_descent(experiment, n_examples)),
    }
    return [make[name]() for name in experiment.simulation.flows]


def build_measures(simulation: Simulation) -> list[AbstractMeasure] | None:
    """Makes the measures.

    Args:
        simulation: The description.

    Returns:
        One measure a name; None for the default ones.
    """
    if simulation.measures == "default":
        return None
    return [_build_measure(name) for name in simulation.measures]


def build_solver(solver: Solver) -> dfx.AbstractSolver | SolverName:
    """Makes the solver.

    Args:
        solver: The description.

    Returns:
        What `nf.simulate` takes.
    """
    # An option that is left out is the solver's own default.
    options = solver.model_dump(exclude={"name"}, exclude_none=True)
    if solver.name == "auto":
        return "auto"
    return _SOLVERS[solver.name](**options)


def _build_measure(name: str) -> AbstractMeasure:
    if name.endswith(_TRACE):
        return _MEASURES[name.removesuffix(_TRACE)](outputs="trace")
    return _MEASURES[name]()


def _build_descent(experiment: Experiment, n_examples: int) -> Descent:
    """The descent of the table `[descent]`, with the batches of all its updates."""
    described, simulation = experiment.descent, experiment.simulation
    assert described is not None, "checked with the description"
    flow = Descent(described.learning_rate, momentum=described.momentum)
    if described.batch_size is None:
        return flow
    if described.batch_size > n_examples:
        raise ValueError(
            f"descent.batch_size = {described.batch_size} exceeds the {n_examples} "
            "training examples: choose a smaller one, or leave it out for all of them."
        )
    updates = math.ceil(simulation.t_last / float(flow.step))
    if updates > simulation.max_steps:
        raise ValueError(
            f"Descent takes {updates:,} updates of {flow.step:g} up to t_last = "
            f"{simulation.t_last:g}, more than simulation.max_steps = "
            f"{simulation.max_steps:,}: choose a larger descent.learning_rate, an "
            "earlier simulation.t_last, or more steps."
        )
    batches = _draw_batches(n_examples, described.batch_size, updates, described.seed)
    return Descent(
        described.learning_rate, momentum=described.momentum, batches=batches
    )


def _draw_batches(n: int, size: int, updates: int, seed: int) -> np.ndarray:
    """Whole batches of a new order in every epoch; what is left over sits it out."""
    rng = np.random.default_rng(seed)
    per_epoch = n // size
    epochs = [
        rng.permutation(n)[: per_epoch * size].reshape(per_epoch, size)
        for _ in range(-(-updates // per_epoch))
    ]
    return np.concatenate(epochs)
