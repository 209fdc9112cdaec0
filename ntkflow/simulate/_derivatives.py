"""Which derivatives a model must have to be trained by a flow."""

from collections.abc import Iterator, Sequence

import equinox as eqx

from .._precision import at_full_precision
from ..flows import AbstractFlow, Modified, Residual
from ..kernels import Obstacles, obstacles_of
from ..measures import AbstractMeasure, layouts
from ..problem import Problem
from ..solvers import (
    AbstractStabilized,
    FunctionSpace,
    KernelExponential,
    KernelImplicit,
)
from ._plan import PlannedSolve

_DEPTH = (
    " If it solves a differential equation, give that diffrax.DirectAdjoint() and a "
    "finite max_steps; nf.models.Depth does so by itself where its adjoint is the "
    "default. BacksolveAdjoint, ForwardMode and a RecursiveCheckpointAdjoint of your "
    "own have one mode each."
)


# Found while it is traced, which JAX does once for all problems of the same shapes.
@eqx.filter_jit
@at_full_precision
def find_obstacles(problem: Problem) -> Obstacles:
    """What keeps a model from being differentiated forward or in reverse.

    Args:
        problem: The problem.

    Returns:
        The obstacles.
    """
    return obstacles_of(lambda p: problem.outputs(p, problem.x[:1]), problem.params)


def check_derivatives(
    obstacles: Obstacles,
    planned: Sequence[PlannedSolve],
    measures: Sequence[AbstractMeasure],
) -> None:
    """Refuses what takes a derivative that a model does not have.

    The gradient is a derivative in reverse. Forward ones are the error of a step on the
    outputs, what moves outputs along, and products with the Jacobian of the flow.

    Args:
        obstacles: From `find_obstacles`.
        planned: The solves.
        measures: The measures.

    Raises:
        ValueError: If something takes a mode that the model lacks; it names what takes
            it, what stands in the way, and what to do.
    """
    forward, reverse = obstacles.forward, obstacles.reverse
    hint = _DEPTH if obstacles.in_equinox else ""
    takers = [flow for plan in planned for flow in plan.solve.coupled.flows]
    backwards = [flow.name for flow in takers if not _is_frozen(flow)]
    if reverse is not None and backwards:
        found = "forward only" if forward is None else "neither forward nor in reverse"
        raise ValueError(
            f"The model can be differentiated {found}: {reverse} keeps nothing for "
            f"reverse mode. {', '.join(backwards)} cannot do without: the gradient is "
            "a derivative in reverse. Write the loop as jax.lax.scan, or as fori_loop "
            'with bounds known beforehand; nf.flows.Residual("frozen") by itself '
            f"takes the kernel alone, which forward mode gives.{hint}"
        )
    wanted = [*_forward_in_solves(planned), *_forward_in_measures(measures)]
    if forward is not None and wanted:
        raise ValueError(
            f"The model can be differentiated in reverse only: {forward} hides it from "
            f"forward mode. That is taken by {'; by '.join(wanted)}. Leave these out, "
            "or write the rule with jax.custom_jvp, which gives both modes. What "
            "takes the gradient alone remains: nf.flows.Descent, and nf.flows.Gradient "
            "or Momentum with controller=diffrax.PIDController(rtol=..., atol=...), "
            f"which measures errors of the parameters.{hint}"
        )


def takes_forward(measure: AbstractMeasure) -> bool:
    """Whether what a measure reads is computed by forward derivatives.

    The velocity of a kernel, full or trace, is one; the curvature is a forward
    derivative of the gradient.

    Args:
        measure: The measure.

    Returns:
        Whether it is.
    """
    return bool(layouts(measure.needs, "velocity")) or "curvature" in measure.needs


def _is_frozen(flow: AbstractFlow) -> bool:
    return isinstance(flow, Residual) and flow.kernel == "frozen"


def _forward_in_solves(planned: Sequence[PlannedSolve]) -> Iterator[str]:
    """What takes forward mode in the solves, in words."""
    for plan in planned:
        solve = plan.solve
        for flow in solve.coupled.flows:
            if flow.pushes or flow.reads_origin or isinstance(flow, Modified):
                yield f"the flow {flow.name}"
        if isinstance(solve.controller, FunctionSpace):
            yield "the step-size controller, which measures errors on the outputs"
        kinds = AbstractStabilized, KernelImplicit, KernelExponential
        for one in (solve, *plan.choices.values()):
            if isinstance(one.solver, kinds):
                yield f"the solver {type(one.solver).__name__}"


def _forward_in_measures(measures: Sequence[AbstractMeasure]) -> Iterator[str]:
    for measure in measures:
        if takes_forward(measure):
            yield f"the measure {type(measure).__name__}"
