"""The empirical neural tangent kernel of any equinox module."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ntkflow._types import Params
from ntkflow.kernels._choose import check_method, choose_method
from ntkflow.kernels._example import Example, trace
from ntkflow.kernels._layouts import find_layout
from ntkflow.kernels._memory import default_max_bytes
from ntkflow.kernels._methods import Request
from ntkflow.models import named_leaves, partition


def ntk(
    model: PyTree,
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    outputs: str = "trace",
    method: str = "auto",
    max_bytes: int | None = None,
    apply: Callable[..., Any] | None = None,
    trainable: PyTree | None = None,
    by_leaf: bool = False,
) -> Float[Array, "..."] | dict[str, Float[Array, "..."]]:
    """The empirical neural tangent kernel Θ = J Jᵀ, J = ∂f/∂θ.

    Exact, whatever the module does. Works under `jit`, `vmap` and `grad`. Symmetric
    kernels (`x2=None`) are symmetric to the last bit. The kernel never contains the
    time scale of training.

    Args:
        model: An equinox module, called on one example.
        x1: Examples along the rows.
        x2: Examples along the columns; by default those along the rows.
        outputs: "full" for [N1, K, N2, K], "diagonal" for [N1, N2, K], "trace" for
            [N1, N2], the **sum** over outputs.
        method: "structured" contracts cotangents and operands of matmuls,
            convolutions and lookups, "contraction" forms Jacobians tile by tile,
            "vector_products" forms neither and needs the least memory; "auto" is the
            cheapest that fits, see `ntkflow.kernels.plan`.
        max_bytes: Bound on the working memory in bytes, the result apart; by default
            `default_max_bytes()`.
        apply: `apply(model, x)` -> [K] for a kernel of anything but `model(x)`: a
            derivative in x, a feature, a difference of outputs.
        trainable: Which leaves count, as for `ntkflow.Problem`; by default all inexact
            arrays outside `Frozen`.
        by_leaf: Whether to return each leaf's part by itself.

    Returns:
        The kernel, in float32 or better; with `by_leaf` a dictionary from the leaf's
        path (such as "layers[0].weight") to its part. The parts sum to the kernel.

    Raises:
        ValueError: A name is unknown, `x1` and `x2` do not hold the same kind of
            examples, no leaf is trained, the model fails on one example, its outputs
            are not real of shape [K], or `max_bytes` does not suffice for one pair.

    Source: Jacot, Gabriel & Hongler (2018), section 4.

    Verified by: tests/kernels/test_ntk.py::test_methods_match_a_loop_over_everything
    """  # ruff: ignore[docstring-extraneous-exception]
    find_layout(outputs)
    check_method(method)
    bound = check_bound(max_bytes)
    first, second = check_pair(x1, x2)
    params, static = partition(model, trainable)
    kernels = compute_kernels(
        Example(static, apply),
        params,
        first,
        second,
        outputs=outputs,
        method=method,
        max_bytes=bound,
        by_leaf=by_leaf,
    )
    if not by_leaf:
        return kernels[0]
    names = [name for name, _ in named_leaves(params)]
    return dict(zip(names, kernels, strict=True))


@eqx.filter_jit
def compute_kernels(
    example: Example,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    *,
    outputs: str,
    method: str,
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
    # A GPU's default would silently round every factor of a product to ten bits.
    with jax.default_matmul_precision("highest"):
        request = Request(
            example=example,
            traced=trace(example, params, x1),
            params=params,
            x1=x1,
            x2=x2,
            layout=find_layout(outputs),
            by_leaf=by_leaf,
            max_bytes=max_bytes,
        )
        return choose_method(method, request)(request)


def check_bound(max_bytes: int | None) -> int:
    """The bound on working memory.

    Args:
        max_bytes: The bound, or None for the default one.

    Returns:
        The bound in bytes.

    Raises:
        ValueError: It is not positive.
    """
    bound = default_max_bytes() if max_bytes is None else max_bytes
    if bound <= 0:
        raise ValueError(f"max_bytes must be positive, got {bound}.")
    return bound


def check_pair(
    x1: Shaped[Array | np.ndarray, "..."], x2: Shaped[Array | np.ndarray, "..."] | None
) -> tuple[Shaped[Array, "N1 ..."], Shaped[Array, "N2 ..."] | None]:
    """Two sets of the same kind of examples.

    Args:
        x1: Examples along the rows.
        x2: Examples along the columns, or None.

    Returns:
        Both as JAX arrays.

    Raises:
        ValueError: They do not go together, or one is empty.
    """
    first = check_examples("x1", x1)
    second = None if x2 is None else check_examples("x2", x2)
    if second is not None and (
        first.shape[1:] != second.shape[1:] or first.dtype != second.dtype
    ):
        raise ValueError(
            "x1 and x2 must hold the same kind of examples, got "
            f"{first.shape[1:]} {first.dtype} and {second.shape[1:]} {second.dtype}. "
            "Both have the examples along the first axis."
        )
    return first, second


def check_examples(
    name: str, x: Shaped[Array | np.ndarray, "..."]
) -> Shaped[Array, "N ..."]:
    """Examples as a JAX array, at least one of them.

    Args:
        name: What to call them in the error.
        x: The examples.

    Returns:
        The examples.

    Raises:
        ValueError: There is no first axis or nothing along it.
    """
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(
            f"{name} must hold at least one example along its first axis, got shape "
            f"{x.shape}. A single example is x[None]."
        )
    return jnp.asarray(x)
