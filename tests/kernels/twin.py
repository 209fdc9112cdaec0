"""The slow obvious kernel: one gradient a leaf, output and example, multiplied."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkflow.models import named_leaves, partition

from ..compilation import QUICK


def gradients(
    model: Any, x: Any, apply: Callable[..., Any] | None = None, trainable: Any = None
) -> dict[str, np.ndarray]:
    """The Jacobian of each trained leaf [N, K, size], one gradient at a time."""
    params, static = partition(model, trainable)

    def output(p: Any, xi: Any, k: int) -> Any:
        whole = eqx.combine(p, static)
        return (whole(xi) if apply is None else apply(whole, xi))[k]

    n_outputs = jax.eval_shape(
        lambda p: (lambda m: m(x[0]) if apply is None else apply(m, x[0]))(
            eqx.combine(p, static)
        ),
        params,
    ).shape[0]
    gradient = jax.jit(jax.grad(output), compiler_options=QUICK)
    rows: dict[str, list[list[np.ndarray]]] = {}
    for xi in x:
        for k in range(n_outputs):
            for name, leaf in named_leaves(gradient(params, xi, k)):
                rows.setdefault(name, []).append(np.asarray(leaf).ravel())
    return {
        name: np.stack(leaf).reshape(len(x), n_outputs, -1)
        for name, leaf in rows.items()
    }


def kernel_by_leaf(
    model: Any,
    x1: Any,
    x2: Any = None,
    *,
    outputs: str = "full",
    apply: Callable[..., Any] | None = None,
    trainable: Any = None,
) -> dict[str, np.ndarray]:
    """For each trained leaf its part of the kernel."""
    every = x1 if x2 is None else jnp.concatenate([x1, x2])
    rows, columns = len(x1), 0 if x2 is None else len(x1)
    formula = {
        "full": "akp,blp->akbl",
        "diagonal": "akp,bkp->abk",
        "trace": "akp,bkp->ab",
    }[outputs]
    return {
        name: np.einsum(formula, leaf[:rows], leaf[columns:])
        for name, leaf in gradients(model, every, apply, trainable).items()
    }


def kernel(*args: Any, **kwargs: Any) -> np.ndarray:
    """The kernel: the sum of the leaves' parts."""
    return np.sum(list(kernel_by_leaf(*args, **kwargs).values()), axis=0)
