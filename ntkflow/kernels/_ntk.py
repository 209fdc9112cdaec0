"""The empirical neural tangent kernel of any equinox module."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._sharding import without_explicit_axes
from ntkflow._types import KernelMethod, OutputLayout, Params
from ntkflow.kernels._choose import check_method
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._error_estimate import warn_if_loose
from ntkflow.kernels._example import Example
from ntkflow.kernels._finite import check_finite
from ntkflow.kernels._functions import Apply, check_call, repeat_both
from ntkflow.kernels._inputs import check_bound, check_mesh
from ntkflow.kernels._layouts import find_layout
from ntkflow.kernels._sharded import compute_sharded
from ntkflow.models import named_leaves, partition


def ntk(
    model: PyTree,
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    outputs: OutputLayout = "trace",
    method: KernelMethod = "auto",
    max_bytes: int | None = None,
    apply: Apply | None = None,
    trainable: PyTree | None = None,
    by_leaf: bool = False,
    mesh: jax.sharding.Mesh | None = None,
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
            [N1, N2], the **sum** over outputs. Two functions of unequally many outputs
            have only "full", [N1, K1, N2, K2].
        method: "structured" contracts cotangents and operands of matmuls,
            convolutions and lookups, "contraction" forms Jacobians tile by tile,
            "vector_products" forms neither and needs the least memory; "auto" is the
            cheapest that fits, see `ntkflow.kernels.plan`.
        max_bytes: Bound on the working memory in bytes, the result apart; by default
            `default_max_bytes()`.
        apply: `apply(model, x)` -> [K] for a kernel of anything but `model(x)`: a
            derivative in x, a feature, a difference of outputs. A pair `(a, b)` is the
            block of two functions: a(model, x1[i]) along the rows, b(model, x2[j])
            along the columns, whose examples may be of another kind.
        trainable: Which leaves count, as for `ntkflow.Problem`; by default all inexact
            arrays outside `Frozen`. Never those of an `equinox.nn.State`.
        by_leaf: Whether to return each leaf's part by itself.
        mesh: Devices to divide the rows among, also those of several processes; the
            result's rows are then spread over them if their number divides N1.
            `max_bytes` holds for each device.

    Returns:
        The kernel, in float32 or better; with `by_leaf` a dictionary from the leaf's
        path (such as "layers[0].weight") to its part. The parts sum to the kernel.

    Raises:
        ValueError: A name is unknown, `x1` and `x2` do not hold the same kind of
            examples, no leaf is trained, the model fails on one example, its outputs
            are not real of shape [K], it closes over parameters where their derivative
            is lost, `max_bytes` does not suffice for one pair, or the kernel is not
            finite: then the error names the leaf and the example it comes from
            (outside of `jit`).
        equinox.EquinoxRuntimeError: The model itself failed, such as a solve in depth;
            a `NeuralODE` names the example.

    Source: Jacot, Gabriel & Hongler (2018), section 4.

    Verified by: tests/kernels/test_ntk.py::test_methods_match_a_loop_over_everything,
        tests/kernels/test_sharded.py::test_eight_devices_give_the_kernel_of_one
    """
    find_layout(outputs)
    check_method(method)
    check_mesh(mesh)
    bound = check_bound(max_bytes)
    call = check_call(apply, x1, x2)
    first, second = call.x1, call.x2
    warn_if_loose(model)
    params, static = partition(without_explicit_axes(model), trainable)
    settings: dict[str, Any] = {
        "outputs": outputs,
        "method": method,
        "max_bytes": bound,
        "by_leaf": by_leaf,
    }
    example, other = call.examples(static)
    try:
        if mesh is None:
            example, other = repeat_both(example, other, params, first, second)
            kernels = compute_kernels(
                example, params, first, second, other=other, **settings
            )
        else:
            kernels = compute_sharded(
                example, params, first, second, mesh, other=other, **settings
            )
    except eqx.EquinoxRuntimeError:
        # Examples are numbered within their tile there, and here as they were given.
        for function, x in ((example, first), (other or example, second)):
            if x is not None:
                _evaluate(function, params, x)
        raise
    except Exception as error:
        if type(error).__name__ != "CustomVJPException":  # it is private to JAX
            raise
        raise ValueError(
            "The model closes over its parameters where a custom reverse rule cannot "
            "see them. A differential equation solved with diffrax.BacksolveAdjoint() "
            "takes them through `args`: diffeqsolve(ODETerm(lambda t, z, field: "
            "field(t, z)), ..., args=self.field); or use "
            "diffrax.RecursiveCheckpointAdjoint()."
        ) from error
    check_finite(kernels, example, params, first, second, other=other)
    if not by_leaf:
        return kernels[0]
    names = [name for name, _ in named_leaves(params)]
    return dict(zip(names, kernels, strict=True))


@eqx.filter_jit
@at_full_precision
def _evaluate(
    example: Example, params: Params, x: Shaped[Array, "N ..."]
) -> Float[Array, "N K"]:
    return jax.vmap(lambda xi: example(params, xi))(x)
