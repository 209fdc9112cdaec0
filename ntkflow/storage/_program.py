"""What a function computes, written so that equal programs have equal texts.

JAX writes a function down as a jaxpr. Names are left out of it, where it was defined
too, and what it captures stands there by its bytes: two functions of the same name that
compute something else differ, and one that has moved to another file does not.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import jax
import jax.extend.core as jex

from .._equations import parameters
from ._fingerprint import described, fingerprint

_NAMES: Final = frozenset({"debug_info", "name"})
"""Parameters of equations that say what something is called."""

_RULES: Final = frozenset({
    "bwd",
    "fwd_jaxpr_thunk",
    "jvp_jaxpr_fun",
    "jvp_jaxpr_thunk",
})
"""Rules of derivatives, which stand written out in the program of a derivative."""


def program(function: Callable[..., Any], *args: Any) -> str:
    """A digest of what a function computes.

    Args:
        function: The function. Arrays that it captures count by their bytes. Where it
            takes derivatives, rules of one's own for these count too.
        args: Its arguments; their shapes and dtypes count, their values do not.

    Returns:
        Hexadecimal digits.

    Verified by:
        tests/storage/test_program.py::test_programs_that_differ_in_one_thing_differ,
        tests/storage/test_program.py::test_names_and_places_do_not_count
    """
    return fingerprint(*_closed(jax.make_jaxpr(function)(*args)))


def _closed(closed: jex.ClosedJaxpr) -> Iterator[bytes]:
    for array in closed.consts:
        yield from _value(array)
    yield from _jaxpr(closed.jaxpr)


def _jaxpr(jaxpr: jex.Jaxpr) -> Iterator[bytes]:
    # Variables are numbered as they come.
    numbers: dict[Any, int] = {}

    def atom(one: Any) -> Iterator[bytes]:
        if isinstance(one, jex.Literal):
            yield from _value(one.val)
        else:
            yield str(numbers.setdefault(one, len(numbers))).encode()
        yield str(one.aval).encode()

    for one in (*jaxpr.constvars, *jaxpr.invars):
        yield from atom(one)
    for equation in jaxpr.eqns:
        yield equation.primitive.name.encode()
        for one in (*equation.invars, *equation.outvars):
            yield from atom(one)
        params = parameters(equation)
        for name in sorted(params.keys() - _NAMES - _RULES):
            yield name.encode()
            yield from _value(params[name])
    for one in jaxpr.outvars:
        yield from atom(one)


def _value(value: Any) -> Iterator[bytes]:
    """A parameter of an equation, or a constant."""
    if isinstance(value, jex.ClosedJaxpr):
        yield from _closed(value)
    elif isinstance(value, jex.Jaxpr):
        yield from _jaxpr(value)
    elif isinstance(value, tuple | list):
        yield str(len(value)).encode()
        for item in value:
            yield from _value(item)
    else:
        yield from described(value)
