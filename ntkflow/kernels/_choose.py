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


def check_modes(name: str, request: Request) -> None:
    """Refuse a method whose derivatives a function does not have.

    Args:
        name: The method's name, or "auto".
        request: What is to be computed.

    Raises:
        ValueError: The method needs another one.
    """
    if name == "auto" or _works(METHODS[name], request):
        return
    works = [n for n, method in METHODS.items() if _works(method, request)]
    found = [side.traced.modes for side in request.sides]
    modes = next(m for m in found if not METHODS[name].works_with(m))
    if name == "structured" and modes.mutates and modes.reverse:
        raise ValueError(
            "method='structured' cannot be used: the model writes to mutable arrays "
            "(jax.new_ref), through which weights cannot be followed. Use "
            f"method='auto', or one of {works}."
        )
    if modes.rounds and modes.forward and modes.reverse:
        raise ValueError(
            f"method={name!r} cannot be used: the model rounds inside, to fewer bits "
            "than its outputs have, so that its derivatives forward and in reverse are "
            f"two different maps. Use method='auto', or one of {works}, which take the "
            "one in reverse; or compute in one precision throughout."
        )
    only = "forward" if modes.forward else "in reverse"
    raise ValueError(
        f"method={name!r} cannot be used: the model can be differentiated {only} "
        f"only. Use method='auto', or one of {works}; or, if the model solves a "
        "differential equation, give it adjoint=diffrax.DirectAdjoint(), which allows "
        "both modes."
    )


def _works(method: AbstractMethod, request: Request) -> bool:
    return all(method.works_with(side.traced.modes) for side in request.sides)


def estimate_all(request: Request) -> dict[str, Estimate]:
    """What every method would need that the function's derivatives allow.

    Args:
        request: What is to be computed.

    Returns:
        Estimates by the method's name.
    """
    return {
        name: method.estimate(request)
        for name, method in METHODS.items()
        if _works(method, request)
    }


def choose_method(name: str, request: Request) -> AbstractMethod:
    """The method that computes a kernel.

    Args:
        name: The method's name; "auto" is the one of fewest operations among those that
            keep within the memory bound.
        request: What is to be computed.

    Returns:
        The method.

    Raises:
        ValueError: The method needs a derivative that the function does not have.
    """  # ruff: ignore[docstring-extraneous-exception]
    if name != "auto":
        check_modes(name, request)
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
