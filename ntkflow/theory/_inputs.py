"""What predictions are given: kernels of either layout, outputs and times."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

Given = Shaped[Array | np.ndarray, "..."]
"""An array whose shape is checked here, with a message of its own."""


class Layout(NamedTuple):
    """How examples and outputs are laid out.

    A kernel [N, N] is that of every output; a full one is [N, K, N, K]. Vectors [N, K]
    become columns [n, m]: one for each output, or a single one.

    Attributes:
        examples: N.
        outputs: K.
        full: Whether kernels are full.
    """

    examples: int
    outputs: int
    full: bool

    @property
    def rows(self) -> int:
        """Rows of the training kernel as a matrix."""
        return self.examples * (self.outputs if self.full else 1)

    def shape(self, first: int, second: int) -> tuple[int, ...]:
        """The shape of a kernel between so many examples.

        Args:
            first: Examples along the rows.
            second: Examples along the columns.

        Returns:
            Its shape.
        """
        if self.full:
            return (first, self.outputs, second, self.outputs)
        return (first, second)

    def square(self, name: str, kernel: Given, count: int) -> Float[Array, "n n"]:
        """A symmetric kernel as a matrix, symmetric to the last digit.

        Args:
            name: The argument, as named in the message.
            kernel: What was given.
            count: Examples along rows and columns.

        Returns:
            The matrix.
        """
        matrix = self.cross(name, kernel, count, count)
        size, eps = jnp.max(jnp.abs(matrix)), float(jnp.finfo(matrix.dtype).eps)
        gap = jnp.max(jnp.abs(matrix - matrix.T))
        matrix = refuse(
            matrix,
            ~(gap <= math.sqrt(eps) * size),
            f"`{name}` must be symmetric and finite, and differs from its transpose "
            "beyond rounding. Kernels of equal inputs along rows and columns are "
            "symmetric; check which inputs it was computed for.",
        )
        return 0.5 * (matrix + matrix.T)

    def cross(
        self, name: str, kernel: Given, first: int | None, second: int
    ) -> Float[Array, "n1 n2"]:
        """A kernel between examples as a matrix.

        Args:
            name: The argument, as named in the message.
            kernel: What was given.
            first: Examples along the rows; None for any number.
            second: Examples along the columns.

        Returns:
            The matrix.

        Raises:
            ValueError: The shape does not fit, or the dtype is no float.
        """
        array = jnp.asarray(check_array(name, kernel))
        if 0 in array.shape:
            raise ValueError(f"`{name}` is empty, of shape {list(array.shape)}.")
        count = array.shape[0] if array.ndim and first is None else first
        if array.shape != self.shape(count or 0, second):
            rows = "Nt" if first is None else first
            shared, k = f"[{rows}, {second}]", self.outputs
            wanted = f"[{rows}, {k}, {second}, {k}]"
            if name in {"ntk_train", "nngp_train"}:
                wanted = f"{shared} (the same for every output) or {wanted} (full)"
            else:
                wanted = wanted if self.full else shared
            raise ValueError(
                f"`{name}` must have shape {wanted}, for {second} examples along the "
                f"columns and {k} outputs, got {list(array.shape)}. Kernels of test "
                "and training set have the test examples along their rows."
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be floating-point numbers, got {array.dtype}."
            )
        return array.reshape(math.prod(array.shape[: array.ndim // 2]), -1)

    def columns(self, outputs: Float[Array, "N K"]) -> Float[Array, "n m"]:
        """Outputs as the columns that kernels act on.

        Args:
            outputs: One number for each example and output.

        Returns:
            [N, K], or [N·K, 1] for full kernels.
        """
        return outputs.reshape(-1, 1) if self.full else outputs

    def restore(self, columns: Float[Array, "*T n m"]) -> Float[Array, "*T N K"]:
        """The outputs that `columns` were made of.

        Args:
            columns: From the last two axes on, columns.

        Returns:
            One number for each example and output.
        """
        return columns.reshape(*columns.shape[:-2], -1, self.outputs)

    def restore_kernel(self, matrix: Float[Array, "*T n1 n2"]) -> Float[Array, "..."]:
        """The kernel or covariance that a matrix stands for.

        Args:
            matrix: From the last two axes on, a matrix.

        Returns:
            [..., N1, N2] or [..., N1, K, N2, K].
        """
        first, second = matrix.shape[-2:]
        per = self.outputs if self.full else 1
        shape = self.shape(first // per, second // per)
        return matrix.reshape(*matrix.shape[:-2], *shape)


def check_array(name: str, given: object) -> Given:
    """Refuse what is no array.

    Args:
        name: The argument, as named in the message.
        given: What was given.

    Returns:
        The array.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(given, Array | np.ndarray):
        return given
    hint = "Lists go through jnp.asarray."
    if hasattr(given, "nngp") and hasattr(given, "ntk"):
        hint = "Of kernels of infinite width give .ntk, or .nngp."
    raise ValueError(f"`{name}` must be an array, got {type(given).__name__}. {hint}")


def layout_of(kernel: Given, y_train: Given) -> Layout:
    """The layout of a problem, from its targets and the kernel of the training set.

    Args:
        kernel: The training kernel, whose shape is not yet checked.
        y_train: Targets.

    Returns:
        The layout.

    Raises:
        ValueError: The targets are no matrix.
    """
    check_array("the training kernel", kernel)
    check_array("y_train", y_train)
    if len(y_train.shape) != 2 or 0 in y_train.shape:
        raise ValueError(
            "`y_train` must have shape [N, K], one row for each example, got "
            f"{list(y_train.shape)}. A single output is y[:, None]."
        )
    examples, outputs = y_train.shape
    return Layout(examples, outputs, len(kernel.shape) == 4)


def as_outputs(
    name: str, given: Given, shape: tuple[int, int], dtype: np.dtype
) -> Float[Array, "N K"]:
    """Outputs or targets, in the kernel's dtype.

    Args:
        name: The argument, as named in the message.
        given: What was given.
        shape: The shape it must have.
        dtype: The kernel's.

    Returns:
        The array.

    Raises:
        ValueError: The shape is another, or it is known not to be finite.
    """
    if check_array(name, given).shape != shape:
        raise ValueError(
            f"`{name}` must have shape {list(shape)}, one row for each example and one "
            f"column for each output, got {list(given.shape)}."
        )
    outputs = jnp.asarray(given).astype(dtype)
    return refuse(outputs, ~jnp.all(jnp.isfinite(outputs)), f"`{name}` is not finite.")


def as_amount(
    name: str, given: float | int | Given, dtype: np.dtype, *, positive: bool = False
) -> Float[Array, ""]:
    """A number that is not negative, such as a ridge.

    Args:
        name: The argument, as named in the message.
        given: What was given; an array of shape () is differentiated through.
        dtype: The kernel's.
        positive: Whether zero is refused, too.

    Returns:
        The number.

    Raises:
        ValueError: It is no single number.
    """
    if jnp.shape(given) != ():
        raise ValueError(
            f"`{name}` must be one number, got {jnp.shape(given)} of them."
        )
    number = jnp.asarray(given).astype(dtype)
    bad = ~(number > 0) if positive else ~(number >= 0)
    least = "positive" if positive else "not negative"
    return refuse(
        number,
        bad | jnp.isinf(number),
        f"`{name}` must be finite and {least}, got {given}.",
    )


def as_times(t: float | int | Given, dtype: np.dtype) -> Float[Array, "*T"]:
    """Times, in the kernel's dtype.

    Args:
        t: One time, or several along one axis; infinity is a time.
        dtype: The kernel's.

    Returns:
        The times.

    Raises:
        ValueError: There is more than one axis, or no time.
    """
    times = jnp.asarray(t).astype(dtype)
    if times.ndim > 1 or not times.size:
        raise ValueError(
            f"`t` must be one time or an array [T], got shape {list(times.shape)}."
        )
    return refuse(
        times, ~jnp.all(times >= 0), f"`t` must not be negative or NaN, got {t}."
    )


def refuse(value: Array, bad: Bool[Array, ""], message: str) -> Array:
    """An error for a value, at once where it is known, else when it is computed.

    Args:
        value: What is passed on.
        bad: Whether it is refused.
        message: Why.

    Returns:
        The value.

    Raises:
        ValueError: It is known to be bad.
    """
    try:
        known = bool(bad)
    except jax.errors.TracerBoolConversionError:
        return eqx.error_if(value, bad, message)
    if known:
        raise ValueError(message)
    return value
