"""Products of matrices at full precision on every device."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def rounds_products() -> bool:
    """Whether the device rounds the factors of a product that asks for no precision.

    Returns:
        False on a CPU, which rounds none, and for which XLA takes up to twice as long
        to compile a program that asks.
    """
    return jax.default_backend() != "cpu"


def full_precision() -> AbstractContextManager[None]:
    """What is traced within asks for the highest precision, where that matters.

    Returns:
        The context.
    """
    if rounds_products():
        return jax.default_matmul_precision("highest")
    return nullcontext()


def at_full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Makes products and convolutions within a function ask for the highest precision.

    A GPU's default rounds the factors of float32 products to ten bits (TF32), three
    digits of what a tolerance of 1e-4 counts on. This holds for products of models and
    losses too, also for those of their derivatives; one that names a precision of its
    own keeps it. Put it inside `equinox.filter_jit`, so that it holds while the
    function is traced.

    Args:
        function: The function.

    Returns:
        The same function at full precision.

    Verified by: tests/test_precision.py::test_every_step_asks_for_full_precision
    """

    @functools.wraps(function)
    def full(*args: P.args, **kwargs: P.kwargs) -> T:
        with full_precision():
            return function(*args, **kwargs)

    return full
