"""What is known while a module is read, and how it is said what cannot be."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

PROBE = (3, 4, 5)
"""Positions tried where the shape of an input is not known."""

ERRORS = 6.0
"""Standard errors by which the variance of weights may be off by chance."""


class Reading:
    """What is known on the way through a module.

    Attributes:
        shape: Units and positions at this place, if the input's were given.
        rank: The number of axes of positions at this place, if it is known.
        single: Whether these are known to have length one.
        trainable: Whether what is read is trained.
        seen: Where weights met so far are, by identity.
    """

    def __init__(self, shape: tuple[int, ...] | None):
        self.shape = shape
        self.rank = None if shape is None else len(shape) - 1
        self.single = False
        self.trainable = True
        self.seen: dict[int, str] = {}

    @property
    def probe_shape(self) -> tuple[int, ...]:
        """A shape on which a function at this place can be tried."""
        if self.shape is not None:
            return self.shape
        rank = 1 if self.rank is None else self.rank
        return (2, *((1,) * rank if self.single else PROBE[:rank]))

    def advance(self, module: Any, path: str, rank: int) -> None:
        """Go past a module.

        Args:
            module: The module.
            path: Where it is.
            rank: Axes of positions behind it.

        Raises:
            ValueError: The module fails on an input of the given shape.
        """
        self.rank, self.single = rank, False
        if self.shape is None:
            return
        x = jax.ShapeDtypeStruct(self.shape, jnp.result_type(float))
        try:
            self.shape = eqx.filter_eval_shape(module, x).shape
        except Exception as error:
            raise ValueError(
                f"from_module: {name(path, module)} fails on one input of shape "
                f"{self.shape}, which is what x_shape makes it. x_shape is the shape "
                "of one example, without the axis of examples."
            ) from error

    def use(self, weight: Any, path: str) -> None:
        """Note where weights are.

        Args:
            weight: An array.
            path: Where it is.

        Raises:
            ValueError: The same array is in another place, too.
        """
        if id(weight) in self.seen:
            raise ValueError(
                f"from_module: {path} and {self.seen[id(weight)]} share their weights. "
                "Layers of the limit are independent; weights used twice, as beside "
                "their own transpose, have another limit or none. Give each layer its "
                "own, or compute the finite kernel with ntkflow.ntk."
            )
        self.seen[id(weight)] = path


def name(path: str, module: Any) -> str:
    """A submodule in words.

    Args:
        path: Where it is; empty for the whole.
        module: The submodule.

    Returns:
        Its path and type.
    """
    kind = getattr(module, "__name__", type(module).__name__)
    return f"{path} ({kind})" if path else f"the model ({kind})"


def refusal(path: str, module: Any, why: str, remedy: str) -> ValueError:
    """The error for a submodule of which the limit is not read.

    Args:
        path: Where it is.
        module: The submodule.
        why: The reason, a clause.
        remedy: What to do, a sentence without its full stop.

    Returns:
        The error.
    """
    return ValueError(
        f"from_module: cannot read {name(path, module)}: {why}. {remedy}."
    )


def drawn_std(array: Any, fan_in: int, path: str, what: str) -> float:
    """The standard deviation with which equinox draws weights, times √fan_in.

    Args:
        array: The weights or the bias.
        fan_in: Number of inputs that each output sums over.
        path: Where the layer is.
        what: Which of its arrays it is.

    Returns:
        1/√3, that of a uniform variable within ±1; 0 for zeros.

    Raises:
        ValueError: The array was not drawn so.
    """
    if is_abstract(array):
        return 3**-0.5
    values = np.asarray(array, float) * math.sqrt(fan_in)
    if not values.any():
        return 0.0
    # Of the mean of n squares: one has mean 1/3 and variance 4/45.
    spread = ERRORS * math.sqrt(4 / 45 / values.size)
    square = np.mean(values**2)
    if np.abs(values).max() > 1 + 1e-6 or abs(square - 1 / 3) > spread:
        raise ValueError(
            f"from_module: {inside(path, what)} is not as equinox draws it, uniformly "
            f"within ±1/√{fan_in}: times √{fan_in}, its root mean square is "
            f"{math.sqrt(square):.3g}, its largest entry {np.abs(values).max():.3g}. "
            "The limit depends on how weights are drawn: pass the model as it is made, "
            "before training, or build the layers by hand with their own w_std and "
            "b_std."
        )
    return 3**-0.5


def is_abstract(array: Any) -> bool:
    """Whether an array's values cannot be looked at.

    Args:
        array: An array, or what stands for one.

    Returns:
        Whether it has no values now.
    """
    if isinstance(array, jax.ShapeDtypeStruct):
        return True
    try:
        np.asarray(array)
    except jax.errors.TracerArrayConversionError:
        return True
    return False


def inside(path: str, attribute: str) -> str:
    """Where an attribute is.

    Args:
        path: Where its owner is; empty for the whole.
        attribute: Its name.

    Returns:
        The path.
    """
    return f"{path}.{attribute}" if path else attribute
