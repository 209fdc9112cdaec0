"""Which method computes a kernel. Decided from shapes alone, so the same every time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ntkflow._errors import unknown_name
from ntkflow.kernels._contraction import Contraction
from ntkflow.kernels._methods import AbstractMethod, Estimate, Request
from ntkflow.kernels._structured import Structured
from ntkflow.kernels._vector_products import VectorProducts

METHODS: Final[Mapping[str, AbstractMethod]] = MappingProxyType({
    method.name: method
    for method in (  # pyright: ignore[reportCallIssue]
        Contraction(),  # pyright: ignore[reportCallIssue]
        Structured(),  # pyright: ignore[reportCallIssue]
        VectorProducts(),  # pyright: ignore[reportCallIssue]
    )
})

"""Of two that need as much, the first is taken."""

VECTORS: Final = 2.0
"""Operations of a product of matrices that take as long as one of vector products,
which meet every weight anew for every column."""


def check_method(name: str) -> None:
    """Refuse a name that is no method.

    Args:
        name: What was given as `method=`.

    Raises:
        ValueError: The name is neither "auto" nor a method.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if name != "auto" and name not in METHODS:
        raise unknown_name("method", name, [*METHODS, "auto"])


def estimate_all(request: Request) -> dict[str, Estimate]:
    """What every method would need.

    Args:
        request: What is to be computed.

    Returns:
        Estimates by the method's name.
    """
    return {name: method.estimate(request) for name, method in METHODS.items()}


def choose_method(name: str, request: Request) -> AbstractMethod:
    """The method that computes a kernel.

    Args:
        name: The method's name; "auto" is the one of fewest operations among those that
            keep within the memory bound.
        request: What is to be computed.

    Returns:
        The method.
    """
    if name != "auto":
        return METHODS[name]
    return METHODS[cheapest(request, estimate_all(request))]


def cheapest(request: Request, estimates: Mapping[str, Estimate]) -> str:
    """The name of the method "auto" stands for.

    Args:
        request: What is to be computed.
        estimates: What every method needs.

    Returns:
        The name; if none keeps within the bound, that of the one nearest to it.
    """
    fitting = [n for n, e in estimates.items() if e.least <= request.max_bytes]
    if not fitting:
        return min(estimates, key=lambda n: estimates[n].least)
    weights = {"vector_products": VECTORS}
    return min(fitting, key=lambda n: weights.get(n, 1.0) * estimates[n].flops)
