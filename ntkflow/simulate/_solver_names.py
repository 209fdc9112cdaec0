"""What to pass for a solver that was named by a text, or by its class."""

import difflib
import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import diffrax as dfx

_OURS = ("Chebyshev", "Rock4", "KernelImplicit", "KernelExponential")
_DIFFRAX = (
    dfx.Tsit5,
    dfx.Dopri5,
    dfx.Dopri8,
    dfx.Bosh3,
    dfx.Heun,
    dfx.Midpoint,
    dfx.Ralston,
    dfx.Euler,
    dfx.ImplicitEuler,
    dfx.Kvaerno3,
    dfx.Kvaerno4,
    dfx.Kvaerno5,
)
_OBJECTS: Final[Mapping[str, str]] = MappingProxyType({
    "auto": '"auto"',
    **{name.lower(): f"nf.solvers.{name}()" for name in _OURS},
    "descent": "nf.solvers.Descent(learning_rate)",
    **{solver.__name__.lower(): f"diffrax.{solver.__name__}()" for solver in _DIFFRAX},
})
"""What to write for each solver, by its name in small letters alone."""


def wrong_solver(given: Any) -> ValueError:
    """The error for what is no solver.

    Args:
        given: What was passed as `solver=`.

    Returns:
        An error that names the object to pass, if the name or class of one was given.
    """
    if isinstance(given, str):
        # Of "nf.solvers.Chebyshev()" the last name counts.
        called = given.split("(", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]
        key = re.sub(r"[^a-z0-9]", "", called.lower())
        near = difflib.get_close_matches(key, _OBJECTS, n=1)
        remedy = f"pass solver={_OBJECTS[near[0]]}" if near else f"pass {_listed()}"
        return ValueError(
            f'solver is "auto" or an object, got the text {given!r}: {remedy}.'
        )
    if inspect.isclass(given) and issubclass(given, dfx.AbstractSolver):
        remedy = _OBJECTS.get(given.__name__.lower(), f"{given.__name__}(...)")
        return ValueError(
            f"solver must be an instance, got the class {given.__name__}: pass "
            f"solver={remedy}."
        )
    return ValueError(
        f"solver must be {_listed()}, another solver of diffrax, or a mapping of flow "
        f"names to these; got {given!r}."
    )


def _listed() -> str:
    *most, last = _OBJECTS.values()
    return f"{', '.join(most)} or {last}"
