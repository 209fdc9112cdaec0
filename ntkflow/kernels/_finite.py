"""Kernels that are no numbers are refused; the leaf and the example are named."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._types import Params
from ntkflow.kernels._contraction import jacobian
from ntkflow.kernels._example import Example, is_known, prepare
from ntkflow.models import named_leaves


def check_finite(
    kernels: tuple[Float[Array, "..."], ...],
    example: Example,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    starts: tuple[int, int] = (0, 0),
    other: Example | None = None,
) -> None:
    """Refuse kernels with numbers that are none, if they are known yet.

    Under `jax.jit` nothing is known, and of kernels spread over several processes no
    process knows all: both pass.

    Args:
        kernels: The kernels.
        example: The outputs of one example.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns; None for those along the rows.
        starts: How many examples come before each of the two, for the error.
        other: The function along the columns, if it is another.

    Raises:
        ValueError: One of them is not finite.

    Verified by: tests/kernels/test_finite.py::test_leaf_and_example_are_named
    """
    given = jax.tree.leaves((kernels, params, x1, x2, example, other))
    if not all(map(is_known, given)) or bool(_are_finite(kernels)):
        return
    named = [name for name, leaf in named_leaves(params) if not _is_finite(leaf)]
    if named:
        raise ValueError(
            f"The kernel is not finite because the leaf {named[0]!r} is not"
            + _others(len(named) - 1, "leaf", "leaves")
            + ". Take a model from before it diverged."
        )
    names = [name for name, _ in named_leaves(params)]
    sides = (("x1", example, x1, starts[0]), ("x2", other or example, x2, starts[1]))
    for side, function, x, start in sides:
        if x is not None:
            outputs, derivatives = (
                np.asarray(found) for found in _finite_parts(function, params, x)
            )
            _refuse(side, start, names, outputs, derivatives)
    raise ValueError(
        f"The kernel is not finite in {kernels[0].dtype} though every derivative in "
        "reverse is: their products overflow, or the derivative forward, which "
        "method='vector_products' takes, is not finite. Use float64, smaller weights "
        "or outputs, or another method."
    )


def _refuse(
    side: str,
    start: int,
    names: list[str],
    outputs: Bool[np.ndarray, " N"],
    derivatives: Bool[np.ndarray, "N leaves"],
) -> None:
    if not derivatives.all():
        bad = np.flatnonzero(~derivatives.all(axis=1))
        leaves = np.flatnonzero(~derivatives[bad[0]])
        cause = (
            "Its outputs are not finite either: look at its inputs."
            if not outputs[bad[0]]
            else "Its outputs are finite: something in the model has no derivative "
            "there, such as a norm at zero or a singular value decomposition at equal "
            "values."
        )
        raise ValueError(
            f"The kernel is not finite because the derivative in the leaf "
            f"{names[leaves[0]]!r}{_others(len(leaves) - 1, 'leaf', 'leaves')} is not "
            f"at example {start + bad[0]} of {side}"
            f"{_others(len(bad) - 1, 'example', 'examples')}. {cause} Mend the model, "
            "leave the example out, or leave the leaf out by trainable=."
        )


def _others(count: int, one: str, several: str) -> str:
    return f" (and {count} other {one if count == 1 else several})" if count else ""


def _is_finite(leaf: Array) -> bool:
    return bool(jnp.all(jnp.isfinite(leaf)))


@jax.jit
def _are_finite(kernels: tuple[Float[Array, "..."], ...]) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(kernel)) for kernel in kernels]))


@eqx.filter_jit
@at_full_precision
def _finite_parts(
    example: Example, params: Params, x: Shaped[Array, "N ..."]
) -> tuple[Bool[Array, " N"], Bool[Array, "N leaves"]]:
    """Whether outputs and derivatives are finite, example by example, leaf by leaf."""
    example, traced = prepare(example, params, x)

    def of_example(xi: Shaped[Array, "..."]) -> tuple[Array, Array]:
        leaves = jax.tree.leaves(jacobian(example, traced, params, xi))
        return jnp.all(jnp.isfinite(example(params, xi))), jnp.stack([
            jnp.all(jnp.isfinite(leaf)) for leaf in leaves
        ])

    return jax.lax.map(of_example, x)
