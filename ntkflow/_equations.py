"""Reading the equations of JAX's programs, whichever release wrote them down.

From release to release JAX changes what it calls the parameters of its primitives, and
how it groups them. Everything that walks over programs reads them here. What a release
writes that is not known is an error that names it, not a number read wrongly.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex


class Parameters(dict[str, Any]):
    """The parameters of an equation; asking for one that it lacks is an error."""

    def __init__(self, equation: jex.JaxprEqn) -> None:
        super().__init__(equation.params)
        self.primitive = equation.primitive.name

    def __missing__(self, name: str) -> Any:
        raise ValueError(self.unread(f"no parameter {name!r}"))

    def unread(self, found: str) -> str:
        """What to tell of an equation that is written in an unknown way.

        Args:
            found: What is not as expected.

        Returns:
            A sentence, and what to do.
        """
        return (
            f"ntkflow cannot read the primitive {self.primitive!r} as JAX "
            f"{jax.__version__} writes it: it has {found}; its parameters are "
            f"{', '.join(sorted(self))}. ntkflow reads what JAX 0.10 to 0.12 write: "
            "install one of these, or a newer ntkflow."
        )


def parameters(equation: jex.JaxprEqn) -> Parameters:
    """The parameters of an equation.

    Args:
        equation: The equation.

    Returns:
        A dictionary; asked for a name that it does not have, it raises a `ValueError`
        that tells the primitive and the parameter.

    Verified by: tests/test_equations.py::test_what_is_not_known_is_named
    """
    return Parameters(equation)


def scan_counts(equation: jex.JaxprEqn) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried.

    JAX 0.10 counts them; from 0.11 on it groups the inputs.

    Args:
        equation: An equation of the primitive scan.

    Returns:
        The two numbers. The other inputs are scanned over.

    Raises:
        ValueError: If they are written in another way.

    Verified by: tests/test_equations.py::test_inputs_of_scans_are_told_apart
    """
    params = parameters(equation)
    if "ft_in" not in params:
        return params["num_consts"], params["num_carry"]
    unpack = getattr(params["ft_in"], "unpack", tuple)
    groups = [len(group) for group in unpack()]
    if len(groups) != 3 or sum(groups) != len(equation.invars):
        found = f"{len(equation.invars)} inputs in groups of {groups}"
        raise ValueError(params.unread(found))
    return groups[0], groups[1]


def programs(equation: jex.JaxprEqn) -> Iterator[jex.Jaxpr]:
    """The programs among the parameters of an equation.

    Args:
        equation: The equation.

    Returns:
        The bodies of loops, branches and calls, without their constants.
    """
    return iter(jex.jaxprs_in_params(equation.params))


def opened(jaxpr: jex.ClosedJaxpr | jex.Jaxpr) -> jex.Jaxpr:
    """A program without the values of its constants.

    Args:
        jaxpr: A program; from JAX 0.11 on there is one kind of them.

    Returns:
        Its equations, with variables for the constants.
    """
    return jaxpr.jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jaxpr
