"""Where depth ends at an event: at the place itself, or at the end of some step."""

import warnings
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix

_REMEDY = (
    "Let the condition return a real number that changes sign there, and locate it: "
    "diffrax.Event(condition, optimistix.Newton(rtol=1e-8, atol=1e-8))."
)


def is_located(event: diffrax.Event) -> bool:
    """Whether a root finder looks for the place of an event.

    Args:
        event: The event.

    Returns:
        Whether it has one.
    """
    return event.root_finder is not None


def warn_if_not_located(event: diffrax.Event | None, *, stacklevel: int) -> None:
    """Warns of an event that is taken to be at the end of a step.

    Args:
        event: The event, or None.
        stacklevel: Where the warning is placed, as for `warnings.warn`.
    """
    if event is not None and not is_located(event):
        warnings.warn(
            "An event without a root finder ends the solve at the end of the step in "
            "which it occurs, which is held where the model is differentiated: outputs "
            "and kernel are wrong by any factor, whatever the tolerance. " + _REMEDY,
            stacklevel=stacklevel,
        )


def located(event: diffrax.Event, tolerance: float) -> diffrax.Event:
    """The same event, located within its step if it is not.

    Args:
        event: The event.
        tolerance: Relative and absolute tolerance on the place.

    Returns:
        The event.
    """
    if is_located(event):
        return event
    condition = jtu.tree_map(_Real, event.cond_fn, is_leaf=callable)
    finder = optimistix.Bisection(rtol=tolerance, atol=tolerance, flip="detect")
    return diffrax.Event(condition, finder, event.direction)


@final
class _Real(eqx.Module):
    """A condition that must be a number.

    Attributes:
        condition: The condition.
    """

    condition: Any

    def __call__(self, t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        value = self.condition(t, y, args, **kwargs)
        if jnp.issubdtype(jnp.result_type(value), jnp.bool_):
            raise ValueError(
                "An event whose condition is true or false is known to the step alone, "
                "and no tolerance tells how wrong that is. " + _REMEDY
            )
        return value
