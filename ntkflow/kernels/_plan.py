"""Which method computes a kernel. Decided from shapes alone, so the same every time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import jax

from ntkflow._errors import unknown_name
from ntkflow.kernels._contraction import Contraction
from ntkflow.kernels._factors import choose_factors
from ntkflow.kernels._methods import AbstractMethod, Request
from ntkflow.kernels._structured import Structured
from ntkflow.kernels._vector_products import VectorProducts

METHODS: Final[Mapping[str, AbstractMethod]] = MappingProxyType({
    method.name: method
    for method in (  # pyright: ignore[reportCallIssue]
        Structured(),  # pyright: ignore[reportCallIssue]
        Contraction(),  # pyright: ignore[reportCallIssue]
        VectorProducts(),  # pyright: ignore[reportCallIssue]
    )
})


def check_method(name: str) -> None:
    """Refuse a name that is no method.

    Args:
        name: What was given as `method=`.

    Raises:
        ValueError: The name is neither "auto" nor a method.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if name != "auto" and name not in METHODS:
        raise unknown_name("method", name, [*METHODS, "auto"])


def choose_method(name: str, request: Request) -> AbstractMethod:
    """The method that computes a kernel.

    Args:
        name: The method's name; "auto" is structured where at least one leaf gains
            from it, else contraction.
        request: What is to be computed.

    Returns:
        The method.
    """
    if name != "auto":
        return METHODS[name]
    factors = choose_factors(request, len(jax.tree.leaves(request.params)))
    return METHODS["structured" if factors.known else "contraction"]
