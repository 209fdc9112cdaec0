"""What a kernel is of: one function, or two, along its rows and along its columns."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Array, PyTree, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example
from ntkflow.kernels._inputs import check_pair

Found = TypeVar("Found")

if TYPE_CHECKING:
    ApplyOne: TypeAlias = Callable[..., Any]
    Apply: TypeAlias = ApplyOne | tuple[ApplyOne, ApplyOne]
else:
    # What is no function is refused with the remedy, also where types are checked at
    # run time.
    Apply = ApplyOne = Any


class Call(NamedTuple):
    """Functions and examples as a kernel was asked for.

    Attributes:
        rows: The function along the rows; None for the model itself.
        columns: The function along the columns; None for that along the rows.
        x1: Examples along the rows.
        x2: Examples along the columns; None where the kernel is symmetric.
    """

    rows: Callable[..., Any] | None
    columns: Callable[..., Any] | None
    x1: Shaped[Array, "N1 ..."]
    x2: Shaped[Array, "N2 ..."] | None

    def examples(self, static: PyTree) -> tuple[Example, Example | None]:
        """The functions of a model.

        Args:
            static: What of the model is not trained.

        Returns:
            The function along the rows; that along the columns, if it is another.
        """
        other = None if self.columns is None else Example(static, self.columns)
        return Example(static, self.rows), other


def check_call(
    apply: Apply | None,
    x1: Shaped[Array | np.ndarray, "..."],
    x2: Shaped[Array | np.ndarray, "..."] | None,
) -> Call:
    """Functions and examples that go together.

    Args:
        apply: A function, a pair of them, or None.
        x1: Examples along the rows.
        x2: Examples along the columns, or None.

    Returns:
        The same, without a second function or second examples that are the first.

    Raises:
        ValueError: `apply` is neither a function nor a pair of them, or the examples
            are none, or of two kinds for one function.
    """
    if isinstance(apply, tuple) and not callable(apply):
        if len(apply) != 2:
            raise ValueError(
                "apply= takes one function or a pair of them, the first along the rows "
                f"and the second along the columns; got {len(apply)}. Take the blocks "
                "of several functions pair by pair."
            )
        for which, function in zip("ab", apply, strict=True):
            with _naming(which):
                _refuse_no_function(function)
        rows, columns = apply
    else:
        check_function(apply)
        rows, columns = apply, None
    if columns is rows:
        columns = None
    first, second = check_pair(x1, x2, alike=columns is None)
    if columns is not None and second is None:
        second = first
    return Call(rows, columns, first, second)


def check_function(apply: Any) -> None:
    """Refuse what is no function, where one is asked for.

    Args:
        apply: What was given as `apply=`.

    Raises:
        ValueError: It is neither None nor a function, such as a pair of them.
    """
    if isinstance(apply, tuple) and not callable(apply):
        raise ValueError(
            "apply= takes one function (model, x) -> [K] here, got a tuple. The block "
            "of a kernel between two functions is ntk(model, x1, x2, apply=(a, b))."
        )
    if apply is not None:
        _refuse_no_function(apply)


def _refuse_no_function(function: Any) -> None:
    if not callable(function):
        raise ValueError(
            f"apply= takes a function (model, x) -> [K] of one example, got a "
            f"{type(function).__name__}. For the model's own outputs write "
            "lambda model, x: model(x)."
        )


def repeat_both(
    example: Example,
    other: Example | None,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
) -> tuple[Example, Example | None]:
    """Both functions with their solves in depth repeated, see `Example.repeating`.

    Args:
        example: The function along the rows.
        other: That along the columns, if it is another.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns, or None.

    Returns:
        Both functions.
    """
    if other is None:
        return example.repeating(params, x1, x2), None

    def repeating(one: Example, params: Params, x: Array) -> Example:
        return one.repeating(params, x, None)

    return for_both(repeating, example, other, params, x1, x2)


def for_both(
    function: Callable[[Example, Params, Array], Found],
    example: Example,
    other: Example | None,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
) -> tuple[Found, Found | None]:
    """What is found for each of the functions of a kernel on its own examples.

    Args:
        function: (function of an example, parameters, examples) -> what is found.
        example: The function along the rows.
        other: That along the columns, if it is another.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns, or None.

    Returns:
        What is found along the rows; and along the columns, if the function is another.

    Raises:
        ValueError: What was raised inside; of a pair it says which of the two it is.
    """  # ruff: ignore[docstring-extraneous-exception]
    if other is None:
        return function(example, params, x1), None
    with _naming("a"):
        rows = function(example, params, x1)
    with _naming("b"):
        return rows, function(other, params, x1 if x2 is None else x2)


@contextmanager
def _naming(which: str) -> Generator[None, None, None]:
    """Says in an error which function of a pair it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Of apply=(a, b), {which}: {error}") from error
