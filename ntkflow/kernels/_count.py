"""Operations and numbers of a program, counted from its shapes."""

import math
from typing import Any, cast

import jax.extend.core as jex

from ntkflow._equations import parameters, programs


def count_flops(jaxpr: jex.Jaxpr) -> int:
    """Operations of one evaluation: two for each multiply-add of a product.

    A loop of unknown length counts as one iteration, a branch as its dearest side.

    Args:
        jaxpr: The program.

    Returns:
        The number of operations; one for each number of any elementwise result.

    Verified by: tests/kernels/test_plan.py::test_operations_are_those_of_the_formula
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, parameters(equation)
        inner = [count_flops(body) for body in programs(equation)]
        if inner:
            once = max(inner) if name == "cond" else sum(inner)
            total += params.get("length", 1) * once
            continue
        result = sum(_size(out) for out in equation.outvars)
        total += result * _each(equation)
    return total


def count_numbers(jaxpr: jex.Jaxpr) -> int:
    """Numbers a reverse pass through one evaluation keeps, at most.

    Args:
        jaxpr: The program.

    Returns:
        Numbers in all results of all equations, those of loops times their length.
    """
    total = 0
    for equation in jaxpr.eqns:
        total += sum(_size(out) for out in equation.outvars)
        repeats = parameters(equation).get("length", 1)  # of a scan; 1 elsewhere
        total += repeats * sum(count_numbers(inner) for inner in programs(equation))
    return total


def _each(equation: jex.JaxprEqn) -> int:
    """Operations for one number of an equation's result."""
    name, params = equation.primitive.name, parameters(equation)
    if name == "dot_general":
        contracted = params["dimension_numbers"][0][0]
        shape = _shape(equation.invars[0])
        return 2 * math.prod(shape[d] for d in contracted)
    if name == "conv_general_dilated":
        _, in_feature, *window = params["dimension_numbers"].rhs_spec
        shape = _shape(equation.invars[1])
        return 2 * math.prod(shape[d] for d in (in_feature, *window))
    return 1


def _shape(variable: Any) -> tuple[int, ...]:
    return cast(Any, variable.aval).shape


def _size(variable: Any) -> int:
    return math.prod(_shape(variable))
