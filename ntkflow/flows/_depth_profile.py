"""Depth as time: kernels of a Neural ODE read out before its depth has ended."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from .._precision import at_full_precision
from ..kernels import ntk
from ..models import NeuralODE


class DepthProfile(NamedTuple):
    """Kernels along depth.

    Attributes:
        ts: The depths.
        features: ⟨z(t), z'(t)⟩, the kernel of the hidden state.
        ntk: The tangent kernel of the network read out at t, R(z(t)), summed over
            outputs: what has built up of it by then.
    """

    ts: Float[np.ndarray, " T"]
    features: Float[Array, "T N N"]
    ntk: Float[Array, "T N N"]


@at_full_precision
def depth_profile(
    model: PyTree,
    x: Shaped[Array, "N ..."],
    ts: Float[Array | np.ndarray, " T"],
    *,
    max_bytes: int | None = None,
) -> DepthProfile:
    """How the kernels of a Neural ODE build up over its depth.

    With t for the number of layers over L, the same is seen in a residual network of L
    layers of step t1/L that share their parameters, Euler's method on this equation:
    the two differ by O(1/L).

    Args:
        model: The Neural ODE.
        x: Examples.
        ts: Increasing depths in (0, t1].
        max_bytes: Bound on the working memory, as for `ntk`.

    Returns:
        The kernels at every depth, from one solve of each example.

    Raises:
        ValueError: If the model is no `NeuralODE`, the depths do not increase within
            (0, t1], or as for `ntk`.

    Source: Chen, Rubanova, Bettencourt and Duvenaud (2018), eq. 1 (layers as steps).
    Verified by: tests/flows/test_depth_profile.py::test_profile_is_the_closed_form,
        tests/flows/test_depth_profile.py::test_layers_approach_depth_at_first_order
    """
    if not isinstance(model, NeuralODE):
        raise ValueError(
            f"depth_profile takes a NeuralODE, got {type(model).__name__}, which has "
            "no depth to stop at."
        )
    depths = model.depth.reached(ts)
    states = jax.vmap(lambda xi: model.states(xi, depths))(x)
    rows = states.reshape(*states.shape[:2], -1)
    features = jnp.einsum("itd,jtd->tij", rows, rows, precision="highest")

    def read_out(model: NeuralODE, xi: Array) -> Float[Array, " TK"]:
        return jnp.ravel(jax.vmap(model.decode)(model.states(xi, depths)))

    kernel = ntk(model, x, outputs="diagonal", apply=read_out, max_bytes=max_bytes)
    assert not isinstance(kernel, dict)
    by_depth = kernel.reshape(*kernel.shape[:2], len(depths), -1)
    return DepthProfile(depths, features, jnp.moveaxis(jnp.sum(by_depth, 3), 2, 0))
