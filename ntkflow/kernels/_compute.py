"""A kernel of a function already split into parameters and the rest, on one device."""

import equinox as eqx
from jaxtyping import Array, Float, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._types import KernelMethod, OutputLayout, Params
from ntkflow.kernels._choose import choose_method
from ntkflow.kernels._example import Example, prepare
from ntkflow.kernels._layouts import find_layout
from ntkflow.kernels._methods import Request


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

    Returns:
        One kernel, or one for each leaf.
    """
    example, traced = prepare(example, params, x1)
    request = Request(
        example=example,
        traced=traced,
        params=params,
        x1=x1,
        x2=x2,
        layout=find_layout(outputs),
        by_leaf=by_leaf,
        max_bytes=max_bytes,
    )
    return choose_method(method, request)(request)
