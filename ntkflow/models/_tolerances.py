"""The tolerances of every solve inside a model, found and changed together."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.typing import DTypeLike
from jaxtyping import PyTree

from ._depth import Depth
from ._event import located
from ._frozen import Frozen


def tightened(
    model: PyTree, factor: float | int, dtype: DTypeLike, precision: DTypeLike
) -> PyTree:
    """The same model with all tolerances of its solves divided by a factor.

    Those of a `Depth` become arrays, so that one compiled kernel serves every factor.
    Step size controllers elsewhere in the model are changed as well. An event without a
    root finder, which ends at the end of a step whatever the tolerances, is located.

    Args:
        model: Any module.
        factor: What to divide by.
        dtype: Dtype of the states, which decides what the default tolerances are.
        precision: Dtype the changed model is meant to be solved in.

    Returns:
        The model.

    Raises:
        ValueError: If there is no tolerance in the model, or one is below what the
            precision can hold; where the model is called, if an event is to be located
            and its condition is true or false.

    Verified by:
        tests/kernels/test_error_estimate.py::test_every_tolerance_is_tightened,
        tests/kernels/test_error_estimate.py::test_estimate_sees_an_event_not_located
    """
    found = 0
    locates = factor != 1  # else the model is what it is, but for its precision
    reach = 8 * float(jnp.finfo(precision).eps)

    def divided(controller: diffrax.PIDController) -> diffrax.PIDController:
        rtol, atol = controller.rtol / factor, controller.atol / factor
        if not rtol >= reach:
            raise ValueError(
                f"A tolerance of rtol={rtol:.2g} is below what "
                f"{jnp.dtype(precision).name} can hold, {reach:.2g}. Take a smaller "
                'factor or a looser model, or jax.config.update("jax_enable_x64", True)'
                "."
            )
        return eqx.tree_at(lambda c: (c.rtol, c.atol), controller, (rtol, atol))

    def change(node: Any) -> Any:
        nonlocal found
        if isinstance(node, diffrax.PIDController):
            found += 1
            return divided(node)
        if isinstance(node, diffrax.Event):
            return located(node, reach) if locates else node
        if not isinstance(node, Depth):
            return node
        tolerances = node.tolerances(dtype)
        if tolerances is None:
            return node
        found += 1
        if node.controller is None:
            controller = diffrax.PIDController(rtol=tolerances[0], atol=tolerances[1])
        else:
            controller = node.controller.tree
        arrays = jtu.tree_map(
            lambda c: _as_arrays(divided(c), dtype) if _is_pid(c) else c,
            controller,
            is_leaf=_is_pid,
        )
        event = node.event
        if event is not None and locates:
            event = located(event, reach)
        return eqx.tree_at(
            lambda d: (d.controller, d.event),
            node,
            (Frozen(arrays), event),
            is_leaf=lambda leaf: leaf is None,
        )

    changed = jtu.tree_map(
        change,
        model,
        is_leaf=lambda n: isinstance(n, Depth | diffrax.Event) or _is_pid(n),
    )
    if not found:
        raise ValueError(
            f"No tolerance was found in {type(model).__name__}: it holds neither an "
            "nf.models.Depth that adapts its steps nor a diffrax.PIDController. Keep "
            "the step size controller of a solve as a field of the module, not inside "
            "its __call__."
        )
    return changed


def loosest(model: PyTree) -> float:
    """The largest relative tolerance that was set for a solve in the model.

    Args:
        model: Any module.

    Returns:
        The tolerance; 0 if none was set as a number.
    """

    def is_solve(node: Any) -> bool:
        return isinstance(node, Depth) or _is_pid(node)

    set_ = [0.0]
    for node in jtu.tree_leaves(model, is_leaf=is_solve):
        inner = node
        if isinstance(node, Depth):
            inner = node if node.controller is None else node.controller.tree
        rtol = getattr(inner, "rtol", None) if is_solve(node) else None
        if rtol is not None and not eqx.is_array(rtol):  # arrays are `tightened`'s
            set_.append(float(rtol))
    return max(set_)


def events_of(model: PyTree) -> list[diffrax.Event]:
    """The events that modules hold for solves of their own.

    Args:
        model: A module.

    Returns:
        The events, those of every `Depth` apart.
    """
    leaves = jtu.tree_leaves(
        model, is_leaf=lambda node: isinstance(node, Depth | diffrax.Event)
    )
    return [leaf for leaf in leaves if isinstance(leaf, diffrax.Event)]


def _is_pid(node: Any) -> bool:
    return isinstance(node, diffrax.PIDController)


def _as_arrays(controller: diffrax.PIDController, dtype: DTypeLike) -> Any:
    return eqx.tree_at(
        lambda c: (c.rtol, c.atol),
        controller,
        (jnp.asarray(controller.rtol, dtype), jnp.asarray(controller.atol, dtype)),
    )
