"""Counting the arithmetic of a function without running it."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex

from .._equations import parameters, programs


def count_flops(function: Callable[..., Any], *args: Any) -> float:
    """The floating-point operations of a function, read off its jaxpr.

    Matrix products and convolutions are counted exactly, loops of known length as often
    as they run, of branches the dearest; anything else counts as one operation for each
    number it returns. A loop that ends on a condition counts once.

    Args:
        function: A traceable function of arrays.
        *args: Its arguments, arrays or structures of arrays; only shapes are read.

    Returns:
        A number of operations.

    Verified by:
        tests/measures/test_cost.py::test_flops_of_products_and_loops_are_counted
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: jex.Jaxpr) -> float:
    return sum((_of_equation(equation) for equation in jaxpr.eqns), start=0.0)


def _of_equation(equation: jex.JaxprEqn) -> float:
    name = equation.primitive.name
    size = sum(math.prod(_shape(out)) for out in equation.outvars)
    if name == "dot_general":
        contracted = parameters(equation)["dimension_numbers"][0][0]
        shape = _shape(equation.invars[0])
        return 2.0 * size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        out_axis = parameters(equation)["dimension_numbers"].rhs_spec[0]
        return 2.0 * size * math.prod(kernel) / kernel[out_axis]
    inner = [_of_jaxpr(jaxpr) for jaxpr in programs(equation)]
    if not inner:
        return float(size)
    if name == "cond":
        return max(inner)
    return parameters(equation).get("length", 1) * sum(inner)


def _shape(atom: Any) -> tuple[int, ...]:
    # Keys and tokens have no shape, and count as one number.
    return getattr(atom.aval, "shape", ())
