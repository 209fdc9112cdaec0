"""How depth is integrated: the solver, its tolerances, and what it cannot do.

Everything in this room that is continuous in depth holds one `Depth` and calls it with
a field and a state. The field goes through diffrax's `args`, never through a closure,
so that every adjoint finds its parameters.
"""

from collections.abc import Callable
from typing import Any, Final, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._checks import check_positive, check_size
from ._event import warn_if_not_located
from ._frozen import Frozen
from ._solve_failure import refuse_failure

State = PyTree[Float[Array, "..."]]
"""What depth carries: an array of any shape, or several."""

TIGHT: Final = 1e-8
"""The default tolerance in float64. A kernel errs 25 to 170 times what outputs do."""

LOOSE: Final = 1e-5
"""The relative tolerance above which a kernel warns: it may be wrong by one part in a
thousand where the outputs look right."""

_REACH: Final = 8
_DEFAULT_REACH: Final = 16


@final
class Depth(eqx.Module):
    """The solve of dz/dt = v(t, z) over one stretch of depth, 0 ≤ t ≤ t1.

    The error of a kernel is 25 to 170 times the error of the outputs, so that the
    default tolerances are those of a kernel, not of a prediction.

    What the adjoint allows (diffrax 0.7.2): `RecursiveCheckpointAdjoint`, the default,
    reverse mode; `DirectAdjoint` both modes and second derivatives, at the cost of
    `max_steps` steps; `ForwardMode` forward mode; `BacksolveAdjoint` reverse mode,
    approximately.

    Args:
        t1: Where depth ends; it begins at 0.
        solver: A diffrax solver; Tsit5 by default.
        rtol: Relative tolerance of a step; by default 1e-8, or 16 roundings if the
            state is of a lower precision.
        atol: Absolute tolerance of a step; as `rtol`.
        controller: A diffrax step size controller in place of the tolerances.
        dt0: The first step, or the only one with `diffrax.ConstantStepSize()`.
        adjoint: A diffrax adjoint.
        max_steps: The most steps of one solve; None for no bound, where the adjoint
            does without one.
        event: A `diffrax.Event` that ends the solve before t1, with a root finder:
            without one the end of depth is that of a step, and this warns.

    Raises:
        ValueError: If a number is not valid, tolerances stand beside a controller,
            `max_steps=None` stands beside an adjoint that needs a bound, or an event
            beside an adjoint that has none.

    Source: Chen, Rubanova, Bettencourt and Duvenaud (2018), eq. 2.
    Verified by: tests/models/test_depth_oracles.py::test_kernel_is_the_closed_form,
        tests/models/test_depth.py::test_stiff_field_needs_few_implicit_steps
    """

    solver: diffrax.AbstractSolver
    controller: Frozen | None
    adjoint: diffrax.AbstractAdjoint
    event: diffrax.Event | None
    t1: float = eqx.field(static=True)
    rtol: float | None = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    dt0: float | None = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)

    def __init__(
        self,
        t1: float | int = 1.0,
        *,
        solver: diffrax.AbstractSolver | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        controller: diffrax.AbstractStepSizeController | None = None,
        dt0: float | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int | None = 4096,
        event: diffrax.Event | None = None,
    ):
        if controller is not None and (rtol, atol) != (None, None):
            raise ValueError(
                "Depth: `rtol` and `atol` are those of the default controller, got "
                f"them beside {type(controller).__name__}. Set them there: "
                "diffrax.PIDController(rtol=..., atol=...)."
            )
        self.solver = diffrax.Tsit5() if solver is None else solver
        # A controller may hold depths to step to: arrays, but no parameters.
        self.controller = None if controller is None else Frozen(controller)
        self.adjoint = (
            diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
        )
        self.event = event
        self.t1 = check_positive("Depth", "t1", t1)
        self.rtol = None if rtol is None else check_positive("Depth", "rtol", rtol)
        self.atol = None if atol is None else check_positive("Depth", "atol", atol)
        self.dt0 = None if dt0 is None else check_positive("Depth", "dt0", dt0)
        self.max_steps = max_steps
        if max_steps is None:
            _refuse_unbounded(self.adjoint)
        else:
            check_size("Depth", "max_steps", max_steps)
        if event is not None and isinstance(self.adjoint, diffrax.BacksolveAdjoint):
            raise ValueError(
                "Depth: BacksolveAdjoint cannot go back from an event. Use "
                "diffrax.RecursiveCheckpointAdjoint()."
            )
        warn_if_not_located(event, stacklevel=3)
        if isinstance(controller, diffrax.ConstantStepSize) and dt0 is None:
            raise ValueError(
                "Depth: diffrax.ConstantStepSize() takes steps of `dt0`, which is "
                "None. Pass, for instance, dt0=t1 / 100."
            )

    def __call__(self, field: Callable[..., Any], z0: State) -> State:
        """The state at the end of depth.

        Args:
            field: The vector field v, called as `field(t, z)`.
            z0: The state at t = 0.

        Returns:
            z(t1), or z where the event was; of the structure of `z0`.

        Raises:
            ValueError: If the field's output is not of the state's shape and dtype, or
                a tolerance is below what the dtype can hold.
        """  # ruff: ignore[docstring-extraneous-exception]
        solution = refuse_failure(self.solve(field, z0), self.max_steps)
        return jtu.tree_map(lambda z: z[-1], solution.ys)

    def along(
        self, field: Callable[..., Any], z0: State, ts: Float[Array | np.ndarray, " T"]
    ) -> State:
        """The states at given depths, each at the end of a step: nothing interpolated.

        Args:
            field: The vector field v, called as `field(t, z)`.
            z0: The state at t = 0.
            ts: Increasing depths in (0, t1]. With a controller that does not adapt its
                steps they should be multiples of `dt0`.

        Returns:
            z at every depth, along a new first axis.

        Raises:
            ValueError: As for a call; or the depths do not increase within (0, t1].
        """  # ruff: ignore[docstring-extraneous-exception]
        solution = self.solve(field, z0, self.reached(ts))
        return refuse_failure(solution, self.max_steps).ys

    @property
    def is_adaptive(self) -> bool:
        """Whether the controller chooses its steps, so that they can end anywhere."""
        return self.controller is None or isinstance(
            self.controller.tree, diffrax.AbstractAdaptiveStepSizeController
        )

    def reached(self, ts: Any) -> np.ndarray:
        """Depths that a solve can visit one after the other.

        Args:
            ts: The depths.

        Returns:
            The depths, a rounding beyond t1 taken off.

        Raises:
            ValueError: If they do not increase within (0, t1].
        """
        ts = np.asarray(ts)
        if ts.ndim != 1 or not ts.size or np.any(np.diff(ts, prepend=0.0) <= 0):
            raise ValueError(
                "Depth: `ts` must be positive increasing depths, one or more, got "
                f"{ts.tolist()}. The state at depth 0 is the one given."
            )
        if ts[-1] > self.t1 * (1 + 4 * float(np.finfo(np.float32).eps)):
            raise ValueError(
                f"Depth: depth ends at t1={self.t1}, got ts up to {ts[-1]}. Raise `t1`."
            )
        return np.minimum(ts, self.t1)

    def tolerances(self, dtype: Any) -> tuple[float, float] | None:
        """The relative and absolute tolerance of a solve.

        Args:
            dtype: Dtype of the state.

        Returns:
            Both; None if the controller does not adapt its steps to any.

        Raises:
            ValueError: If one is below what the dtype can hold.
        """
        if self.controller is not None:
            rtol = getattr(self.controller.tree, "rtol", None)
            atol = getattr(self.controller.tree, "atol", None)
            return None if rtol is None or atol is None else (float(rtol), float(atol))
        eps = float(jnp.finfo(dtype).eps)
        default = max(TIGHT, _DEFAULT_REACH * eps)
        rtol = default if self.rtol is None else self.rtol
        atol = default if self.atol is None else self.atol
        if rtol < _REACH * eps:
            raise ValueError(
                f"Depth: rtol={rtol:g} is below what {jnp.dtype(dtype).name} can hold, "
                f"{_REACH * eps:.2g}. Raise it, leave it out, or use float64."
            )
        return rtol, atol

    def stepping(
        self, dtype: Any, jumps: Any = (), ts: Any = None
    ) -> diffrax.AbstractStepSizeController:
        """The step size controller of a solve.

        Args:
            dtype: Dtype of the state.
            jumps: Depths at which the field jumps.
            ts: Depths to step to exactly, or None.

        Returns:
            The controller.

        Raises:
            ValueError: If a tolerance is below what the dtype can hold.
        """  # ruff: ignore[docstring-extraneous-exception]
        if self.controller is not None:
            controller = self.controller.tree
        else:
            rtol, atol = self.tolerances(dtype) or (TIGHT, TIGHT)
            controller = diffrax.PIDController(rtol=rtol, atol=atol)
        if self.is_adaptive and (len(jumps) or ts is not None):
            jump_ts = jnp.asarray(jumps, dtype) if len(jumps) else None
            step_ts = None if ts is None else jnp.asarray(ts, dtype)
            return diffrax.ClipStepSizeController(controller, step_ts, jump_ts)
        return controller

    def solve(
        self,
        field: Callable[..., Any],
        z0: State,
        ts: Float[np.ndarray, " T"] | None = None,
        *,
        recorded: int | None = None,
    ) -> diffrax.Solution:
        """The solve itself; whether it succeeded is for the caller to see.

        Args:
            field: The vector field v, called as `field(t, z)`.
            z0: The state at t = 0.
            ts: Depths to save at; None for the end.
            recorded: If given, the ends of all accepted steps are saved instead, of
                this many at most, and there is no derivative.

        Returns:
            The solution.

        Raises:
            ValueError: As for a call.
        """  # ruff: ignore[docstring-extraneous-exception]
        dtype = jnp.result_type(*jtu.tree_leaves(z0))
        t0, t1 = jnp.zeros((), dtype), jnp.asarray(self.t1, dtype)
        check_field(field, t0, z0)
        saveat = diffrax.SaveAt(t1=True)
        if ts is not None:
            saveat = diffrax.SaveAt(ts=jnp.asarray(ts, dtype))
        adjoint, max_steps = self.adjoint, self.max_steps
        if recorded is not None:
            saveat = diffrax.SaveAt(steps=True, fn=lambda t, z, args: None)
            adjoint, max_steps = diffrax.ForwardMode(), recorded
        return diffrax.diffeqsolve(
            diffrax.ODETerm(_apply),
            self.solver,
            t0=t0,
            t1=t1,
            dt0=None if self.dt0 is None else jnp.asarray(self.dt0, dtype),
            y0=z0,
            args=field,
            saveat=saveat,
            stepsize_controller=self.stepping(
                dtype, tuple(getattr(field, "jumps", ())), ts
            ),
            adjoint=adjoint,
            max_steps=max_steps,
            event=self.event,
            throw=False,
        )


def _apply(t: Any, z: Any, field: Callable[..., Any]) -> Any:
    return field(t, z)


def check_field(field: Callable[..., Any], t: Float[Array, ""], z: State) -> None:
    """Refuse a vector field whose output is not of the state's shape.

    Args:
        field: The vector field.
        t: A depth.
        z: A state.

    Raises:
        ValueError: If `field(t, z)` is not of the structure, shapes and dtypes of `z`.
    """
    out = jax.eval_shape(lambda t, z: field(t, z), t, z)
    state = jax.eval_shape(lambda z: z, z)

    def kinds(tree: Any) -> Any:
        return jtu.tree_map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), tree)

    if kinds(out) == kinds(state):
        return

    def say(tree: Any) -> str:
        leaves = jtu.tree_leaves(tree)
        return " and ".join(f"{list(leaf.shape)} {leaf.dtype}" for leaf in leaves)

    raise ValueError(
        f"The vector field {type(field).__name__} must return dz/dt of the state's "
        f"shape and dtype, {say(state)}, got {say(out)}. Give it as many outputs as "
        "the state has, encoder and augmentation included."
    )


def _refuse_unbounded(adjoint: diffrax.AbstractAdjoint) -> None:
    checkpointed = isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint)
    unbounded = checkpointed and adjoint.checkpoints is None  # pyright: ignore[reportAttributeAccessIssue]
    if unbounded or isinstance(adjoint, diffrax.DirectAdjoint):
        raise ValueError(
            f"Depth: `max_steps=None` cannot stand beside {type(adjoint).__name__}, "
            "whose memory is allotted by the most steps there can be. Pass "
            "`max_steps`, or adjoint=diffrax.RecursiveCheckpointAdjoint("
            "checkpoints=...), or adjoint=diffrax.ForwardMode()."
        )
