"""Errors measured where they matter: on the outputs, not on the parameters.

An error of the parameters along a flat direction changes no output, and one along a
stiff direction changes them a lot, so a tolerance on parameters promises nothing about
the function. One product Jv carries a step's error to the outputs.

Outputs alone do not show everything that will matter. On a plateau, where a network
waits with small weights, an error far below the size of the outputs is a large part of
those weights: it grows with them, and the plateau is left at the wrong time. So each
array of parameters is also measured relative to its own size. Where the small weights
are combinations of large ones, as in a network that has learned some modes and waits
for others, sizes do not show them either, but they are all that moves, ever faster: an
array that accelerates is measured relative to how far the step moves it. Where
velocities jump, as those of a ReLU network do, it is not: a step across a jump is wrong
by a part of its movement, however short it is.
"""

import math
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from .._types import Scalar
from ._finite import all_finite


@final
class FunctionSpace(dfx.AbstractStepSizeController[Any, Any]):
    """Gives a controller the error of the outputs in place of that of the state.

    Each array of outputs is measured by itself, relative to the larger of its root mean
    square and `scale`: outputs that start at zero have the targets' size to be measured
    by, and one small output among large ones does not dictate the step. The wrapped
    controller's norm sees one array for each array of outputs, and one filled with the
    largest error of an array of `params` relative to that array's root mean square, or
    to ten times its movement where that is less and faster than in the step before.

    Attributes:
        controller: A diffrax controller that adapts to errors.
        outputs: Takes a state to its outputs, any pytree; None where `ntkflow.simulate`
            is to put the flows' training and test outputs.
        scale: Size below which outputs count as small; None likewise, for the root mean
            square of the targets.
        params: Takes a state to the arrays that are held relative to their own size;
            None likewise, for the network's parameters.
        by_movement: Whether arrays that accelerate are held relative to their movement;
            false for models with kinks.

    Verified by:
        tests/solvers/test_function_space.py::test_error_of_the_outputs_is_held
        tests/solvers/test_function_space.py::test_small_parameters_are_held_by_their_size
        tests/solvers/test_function_space.py::test_what_accelerates_is_held_by_its_movement
    """

    controller: dfx.AbstractStepSizeController
    outputs: Callable[[Any], PyTree[Array]] | None = None
    scale: Any = None
    params: Callable[[Any], PyTree[Array]] | None = None
    by_movement: bool = eqx.field(default=True, static=True)

    def wrap(self, direction: Any) -> "FunctionSpace":
        """Wraps the inner controller.

        Args:
            direction: +1 or −1.

        Returns:
            The wrapped controller.
        """
        wrapped = self.controller.wrap(direction)
        return eqx.tree_at(lambda s: s.controller, self, wrapped)

    def bind(
        self,
        outputs: Callable[[Any], PyTree[Array]],
        scale: Any,
        params: Callable[[Any], PyTree[Array]] | None = None,
    ) -> "FunctionSpace":
        """Fills in what was left open.

        Args:
            outputs: Takes a state to its outputs.
            scale: Size below which outputs count as small.
            params: Takes a state to the arrays held relative to their own size.

        Returns:
            A controller with all of them.
        """
        return FunctionSpace(
            self.controller,
            outputs if self.outputs is None else self.outputs,
            scale if self.scale is None else self.scale,
            params if self.params is None else self.params,
            self.by_movement,
        )

    def init(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, terms, t0, t1, y0, dt0, args, func, error_order
    ):
        """The first step, chosen by the inner controller from the state itself.

        Args:
            terms: The vector field.
            t0: Start.
            t1: End of the solve.
            y0: The state.
            dt0: The first step, or None.
            args: Arguments of the vector field.
            func: The solver's evaluation of the vector field.
            error_order: Order of the error estimate.

        Returns:
            The end of the first step; the inner controller's state, and the speed of
            each array of `params`.
        """
        first, inner = self.controller.init(
            terms, t0, t1, y0, dt0, args, func, error_order
        )
        arrays = [] if self.params is None else _nonempty(self.params(y0))
        dtype = jnp.result_type(float, *arrays)
        return first, (inner, jnp.full(len(arrays), jnp.inf, dtype))

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """The inner controller's decision on the outputs' error.

        Args:
            t0: Start of the step just made.
            t1: End of the step just made.
            y0: State at its start.
            y1_candidate: State at its end.
            args: Arguments of the vector field.
            y_error: Estimate of the local error of the state.
            error_order: Its order.
            controller_state: The inner controller's state, and speeds.

        Returns:
            As `diffrax.AbstractStepSizeController.adapt_step_size`.

        Raises:
            ValueError: If the outputs were left open, or there is no error estimate.
        """
        if self.outputs is None or y_error is None:
            raise ValueError(
                "FunctionSpace measures a solver's error on the outputs: give it "
                "outputs=, a function of the state, and use a solver with an error "
                "estimate."
            )
        f, error = jax.jvp(self.outputs, (y1_candidate,), (y_error,))
        # A step into nowhere has an infinite error, which every controller understands.
        bad = ~(all_finite(error) & all_finite(y1_candidate))
        error = jtu.tree_map(lambda e: jnp.where(bad, jnp.inf, e), error)
        size = jtu.tree_map(
            lambda a: jnp.full_like(a, jnp.where(bad, 1.0, self._size(a))), f
        )
        inner, before = controller_state
        speeds = before
        if self.params is not None:
            start, end, wrong = map(self.params, (y0, y1_candidate, y_error))
            moved = jtu.tree_map(jnp.subtract, end, start)
            moved = _sizes(_nonempty(moved), before.dtype)
            speeds = moved / jnp.asarray(t1 - t0, before.dtype)
            held = (speeds > before) & self.by_movement
            least = jnp.where(held, _MOVEMENTS * moved, jnp.inf)
            worst = self._relative(end, wrong, least)
            worst = jnp.where(bad, jnp.inf, worst)
            # As many numbers as outputs, which a norm that averages all dilutes least.
            shape = max((a.shape for a in jtu.tree_leaves(f)), key=math.prod)
            unit = self._unit(worst.dtype)
            error = error, jnp.broadcast_to(worst, shape)
            size = size, jnp.broadcast_to(unit, shape)
        keep, next_t0, next_t1, made_jump, inner, result = (
            self.controller.adapt_step_size(
                t0, t1, size, size, args, error, error_order, inner
            )
        )
        state = inner, jnp.where(keep, speeds, before)
        return keep, next_t0, next_t1, made_jump, state, result

    def _size(self, f: Float[Array, "..."]) -> Scalar:
        floor = jnp.asarray(0.0 if self.scale is None else self.scale, f.dtype)
        return jnp.maximum(_rms(f), floor)

    def _unit(self, dtype: Any) -> Scalar:
        # The absolute tolerance of the wrapped controller is in units of outputs.
        return jnp.asarray(1.0 if self.scale is None else self.scale, dtype)

    def _relative(
        self, params: PyTree[Array], errors: PyTree[Array], sizes: Float[Array, " A"]
    ) -> Scalar:
        """The largest error of an array over its size, or `sizes`, in `_unit`s."""
        arrays = _nonempty(params)
        if not arrays:
            return 0 * self._unit(None)
        own = _sizes(arrays, sizes.dtype)
        error = _sizes(_nonempty(errors), sizes.dtype)
        # An array that symmetry keeps at zero holds nothing but rounding of what the
        # others are made of, and no step is short enough to hold that.
        counts = jnp.asarray([a.size for a in arrays], sizes.dtype)
        whole = jnp.sqrt(jnp.sum(counts * own**2) / jnp.sum(counts))
        least = _ROUNDINGS * jnp.finfo(sizes.dtype).eps * whole
        own = jnp.minimum(own, sizes)
        relative = error / jnp.maximum(own, jnp.finfo(sizes.dtype).tiny)
        relative = jnp.where(error > least, relative, jnp.zeros_like(relative))
        return _SHARE * self._unit(sizes.dtype) * jnp.max(relative)


_MOVEMENTS = 10.0
"""Movements of an accelerating array in a step that are its size, if that is less."""

_ROUNDINGS = 100
"""Roundings, of the size of all parameters together, that count as no error."""

_SHARE = 3.0
"""How much tighter parameters are held than outputs: on a plateau the errors of all its
steps add up before the outputs show any."""


def _nonempty(tree: PyTree[Array]) -> list[Array]:
    return [a for a in jtu.tree_leaves(tree) if a.size > 0]


def _sizes(arrays: list[Array], dtype: Any) -> Float[Array, " A"]:
    """Root mean squares. One vector of them is a program of few instructions."""
    return jnp.sqrt(jnp.asarray([jnp.mean(a**2) for a in arrays], dtype))


def _rms(a: Float[Array, "..."]) -> Scalar:
    return jnp.sqrt(jnp.mean(a**2))
