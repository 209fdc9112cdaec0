"""A kernel of a function already split into parameters and the rest, on one device."""

import equinox as eqx
from jaxtyping import Array, Float, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._types import KernelMethod, OutputLayout, Params
from ntkflow.kernels._choose import choose_method
from ntkflow.kernels._example import Example, prepare
from ntkflow.kernels._functions import for_both
from ntkflow.kernels._layouts import check_outputs, find_layout
from ntkflow.kernels._methods import Request, Side


@eqx.filter_jit
@at_full_precision
def compute_kernels(
    example: Example,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    *,
    outputs: OutputLayout,
    method: KernelMethod,
    max_bytes: int,
    by_leaf: bool,
    other: Example | None = None,
) -> tuple[Float[Array, "..."], ...]:
    """The kernel of a function already split into parameters and the rest.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns; None for those along the rows.
        outputs: Name of the layout.
        method: Name of the method, or "auto".
        max_bytes: Bound on the working memory in bytes.
        by_leaf: Whether to return each leaf's part by itself.
        other: The function along the columns, if it is another; then `x2` is given.

    Returns:
        One kernel, or one for each leaf.
    """
    request = request_of(
        example,
        params,
        x1,
        x2,
        other,
        outputs=outputs,
        max_bytes=max_bytes,
        by_leaf=by_leaf,
    )
    return choose_method(method, request)(request)


def request_of(
    example: Example,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    other: Example | None,
    *,
    outputs: OutputLayout,
    max_bytes: int,
    by_leaf: bool,
) -> Request:
    """What is asked of a method, checked.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns; None for those along the rows.
        other: The function along the columns, if it is another; then `x2` is given.
        outputs: Name of the layout.
        max_bytes: Bound on the working memory in bytes.
        by_leaf: Whether every leaf's part is wanted by itself.

    Returns:
        The request.

    Raises:
        ValueError: The layout does not suit the outputs, or a function is none.
    """  # ruff: ignore[docstring-extraneous-exception]
    first, second = for_both(prepare, example, other, params, x1, x2)
    layout = find_layout(outputs)
    rows = Side(*first, x1)
    others = None if x2 is None else Side(*(second or first), x2)
    request = Request(params, rows, others, layout, by_leaf, max_bytes)
    check_outputs(layout, request.n_outputs)
    return request
