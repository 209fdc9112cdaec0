"""Which derivatives a model must have to be trained by a flow."""

import equinox as eqx

from .._precision import at_full_precision
from ..kernels import Modes, modes_of
from ..problem import Problem


# Found while it is traced, which JAX does once for all problems of the same shapes.
@eqx.filter_jit
@at_full_precision
def _modes(problem: Problem) -> Modes:
    return modes_of(lambda p: problem.outputs(p, problem.x[:1]), problem.params)


def check_derivatives(problem: Problem) -> None:
    """Refuses a model that cannot be differentiated as the flows need it.

    The flow itself is a reverse mode derivative; the error of its steps, the residual
    and linearized flows are forward ones, and both are taken through whatever solve
    the model contains.

    Args:
        problem: The problem.

    Raises:
        ValueError: If one of the modes is missing.
    """
    modes = _modes(problem)
    if modes.forward and modes.reverse:
        return
    if not (modes.forward or modes.reverse):
        found = "neither forward nor in reverse"
    else:
        found = "forward only" if modes.forward else "in reverse only"
    raise ValueError(
        f"The model can be differentiated {found}, and training takes both modes: the "
        "gradient is a derivative in reverse, the error of a step and the residual "
        "flows are forward ones. If it solves a differential equation, give that "
        "diffrax.DirectAdjoint() and a finite max_steps; nf.models.Depth does so by "
        "itself where its adjoint is the default. BacksolveAdjoint, ForwardMode and a "
        "RecursiveCheckpointAdjoint of your own have one mode each."
    )
