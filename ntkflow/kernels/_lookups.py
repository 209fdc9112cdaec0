"""Lookups whose indices miss the table: one derivative in both modes.

A lookup that promises indices in bounds (`table[i]`) reads the nearest entry where the
promise is broken. Its derivative in reverse drops the cotangent there, as gradient
descent does; forward mode would read a tangent. Here both drop it.
"""

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.lax import GatherScatterMode as Mode
from jaxtyping import Array, Float, Integer

from ntkflow._equations import parameters, programs

REBUILT: Final = frozenset({
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("cond", "scan"),
})
"""Primitives whose programs are rewritten; a custom rule stands for its own."""


def promises(equation: jex.JaxprEqn) -> bool:
    """Whether an equation looks up numbers by indices that it promises in bounds.

    Args:
        equation: The equation.

    Returns:
        Whether it does.
    """
    return (
        equation.primitive.name == "gather"
        and parameters(equation)["mode"] == Mode.PROMISE_IN_BOUNDS
        and jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.inexact)  # pyright: ignore[reportAttributeAccessIssue]
    )


def has_promises(jaxpr: jex.Jaxpr) -> bool:
    """Whether a program has such an equation, one that can be rewritten.

    Args:
        jaxpr: The program.

    Returns:
        Whether it has.
    """
    return any(
        promises(equation)
        or (
            equation.primitive.name in REBUILT
            and any(map(has_promises, programs(equation)))
        )
        for equation in jaxpr.eqns
    )


def evaluate(jaxpr: jex.ClosedJaxpr, *arguments: Any) -> list[Any]:
    """Evaluate a program; forward derivatives are the transposes of those in reverse.

    Args:
        jaxpr: The program.
        arguments: Its arguments.

    Returns:
        Its results.

    Verified by: tests/kernels/test_lookups.py::test_every_method_is_the_reverse_one
    """
    env: dict[Any, Any] = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    env.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, jex.Literal) else env[v]

    for equation in jaxpr.jaxpr.eqns:
        results = bind(equation, [read(v) for v in equation.invars])
        env.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.jaxpr.outvars]


def bind(equation: jex.JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
    """Evaluate one equation likewise.

    Args:
        equation: The equation.
        values: Its operands.

    Returns:
        Its results.
    """
    primitive, params = equation.primitive, parameters(equation)
    with equation.ctx.manager:
        if promises(equation):
            return [_gather(params)(*values)]
        if primitive.name in REBUILT:
            params = {name: _rebuilt(value) for name, value in params.items()}
        result = primitive.bind(*values, **primitive.get_bind_params(params))
    return result if primitive.multiple_results else [result]


def _gather(params: dict[str, Any]) -> Any:
    @jax.custom_jvp
    def gather(operand: Float[Array, "..."], indices: Integer[Array, "..."]) -> Array:
        return jax.lax.gather(operand, indices, **params)

    @gather.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        filled = params | {"mode": Mode.FILL_OR_DROP, "fill_value": 0}
        tangent = jax.lax.gather(tangents[0], primals[1], **filled)
        return gather(*primals), tangent

    return gather


def _rebuilt(value: Any) -> Any:
    """A parameter of an equation, the programs in it rewritten."""
    if isinstance(value, tuple):
        return tuple(_rebuilt(one) for one in value)
    if isinstance(value, jex.ClosedJaxpr) and has_promises(value.jaxpr):
        return _rewritten(value)
    if isinstance(value, jex.Jaxpr) and has_promises(value):
        # It has no constants: what it needs are its arguments.
        return _rewritten(jex.ClosedJaxpr(value, ())).jaxpr
    return value


def _rewritten(jaxpr: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    return jax.make_jaxpr(lambda *given: evaluate(jaxpr, *given))(*jaxpr.in_avals)
