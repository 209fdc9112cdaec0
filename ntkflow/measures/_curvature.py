"""The largest eigenvalue of the Hessian, by Lanczos with a warm start."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._precision import full_precision
from .._types import Params, Scalar
from ..problem import Problem

PRODUCTS = 12
"""Products with the Hessian between two restarts."""

CYCLES = 20
"""Restarts before the estimate is taken as it is, with its error."""

ACCURACY = 1e-3
"""Residual, relative to the eigenvalue, at which Lanczos ends."""


class Curvature(eqx.Module):
    """An estimate of the leading eigenpair of the Hessian of c·L.

    Attributes:
        value: λ, the Rayleigh quotient vᵀHv.
        error: ‖Hv − λv‖₂. The Hessian has an eigenvalue within it of λ.
        vector: v, of unit length, over the raveled parameters.
    """

    value: Scalar
    error: Scalar
    vector: Float[Array, " P"]


class _State(NamedTuple):
    """The estimate at hand.

    Attributes:
        vector: v.
        image: Hv.
        value: vᵀHv.
        error: ‖Hv − λv‖.
        cycle: Restarts so far.
        settled: Whether the error is small enough.
    """

    vector: Float[Array, " P"]
    image: Float[Array, " P"]
    value: Float[Array, ""]
    error: Float[Array, ""]
    cycle: Int[Array, ""]
    settled: Bool[Array, ""]


def leading_curvature(
    problem: Problem, params: Params, start: Float[Array, " P"] | None = None
) -> Curvature:
    """The algebraically largest eigenvalue of c·∇²L(θ), decay included.

    Lanczos with full orthogonalization, restarted from the best vector at hand. The
    first Krylov space contains the start itself and begins with its residual and a
    random vector, so that a start that is an eigenvector already costs one cycle, and a
    direction that has overtaken it since is found.

    Args:
        problem: The problem.
        params: θ.
        start: Where to begin, an eigenvector of a nearby θ; a random vector if None.

    Returns:
        Eigenvalue, its error and eigenvector. The same arguments give the same result.

    Source: Parlett (1998), theorem 4.5.1 (the error) and chapter 13 (Lanczos).
    Verified by:
        tests/measures/test_sharpness.py::test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian,
        tests/measures/test_sharpness.py::test_a_direction_that_overtakes_is_found_from_a_warm_start
    """
    flat, unravel = ravel_pytree(params)

    def slope(at: Float[Array, " P"]) -> Float[Array, " P"]:
        return problem.time_scale * ravel_pytree(problem.gradient(unravel(at)))[0]

    with full_precision():
        _, hessian = jax.linearize(slope, flat)
        found = _lanczos(hessian, flat, start)
    return Curvature(found.value, found.error, found.vector)


_Krylov = tuple[Float[Array, "m P"], Float[Array, "m P"], Float[Array, " P"]]


def _lanczos(
    hessian: Callable[[Array], Array],
    like: Float[Array, " P"],
    start: Float[Array, " P"] | None,
) -> _State:
    key = jax.random.key(0)
    steps = min(PRODUCTS, like.size - 1)
    eps = float(jnp.finfo(like.dtype).eps)

    def random(cycle: Array | int, step: Array | int) -> Float[Array, " P"]:
        at = jax.random.fold_in(jax.random.fold_in(key, cycle), step)
        return _unit(jax.random.normal(at, like.shape, like.dtype))

    def cycle(state: _State) -> _State:
        residual = state.image - state.value * state.vector
        fresh = _unit(residual) + random(state.cycle, 0)
        first = jnp.where(state.cycle == 0, fresh, residual)
        shape = (steps + 1, like.size)
        basis = jnp.zeros(shape, like.dtype).at[0].set(state.vector)
        images = jnp.zeros(shape, like.dtype).at[0].set(state.image)

        def extend(step: Array, carry: _Krylov) -> _Krylov:
            basis, images, candidate = carry
            new = _orthonormal(candidate, basis, random(state.cycle, step))
            image = hessian(new)
            return basis.at[step].set(new), images.at[step].set(image), image

        basis, images, _ = jax.lax.fori_loop(
            1, steps + 1, extend, (basis, images, first)
        )
        small = basis @ images.T
        values, weights = jnp.linalg.eigh(0.5 * (small + small.T))
        vector, image = weights[:, -1] @ basis, weights[:, -1] @ images
        largest = jnp.max(jnp.abs(values))
        state = _state(vector, image, state.cycle + 1)
        enough = ACCURACY * jnp.abs(state.value) + 16 * eps * largest
        return state._replace(settled=state.error <= enough)

    vector = random(CYCLES, 0) if start is None else _unit(start.astype(like.dtype))
    state = _state(vector, hessian(vector), jnp.asarray(0))
    return jax.lax.while_loop(
        lambda state: ~state.settled & (state.cycle < CYCLES), cycle, state
    )


def _state(vector: Array, image: Array, cycle: Array) -> _State:
    length = jnp.linalg.norm(vector)
    vector, image = vector / length, image / length
    value = jnp.vdot(vector, image)
    error = jnp.linalg.norm(image - value * vector)
    return _State(vector, image, value, error, cycle, jnp.asarray(False))


def _unit(vector: Float[Array, " P"]) -> Float[Array, " P"]:
    length = jnp.linalg.norm(vector)
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1), vector)


def _orthonormal(
    candidate: Float[Array, " P"],
    basis: Float[Array, "m P"],
    spare: Float[Array, " P"],
) -> Float[Array, " P"]:
    # The part of a vector outside a basis, or of a spare one if there is none: a Krylov
    # space that closes early leaves round-off of the candidate.
    def outside(vector: Array) -> tuple[Array, Array]:
        before = jnp.linalg.norm(vector)
        for _ in range(2):  # once leaves the cancellation of the first time
            vector = vector - (basis @ vector) @ basis
        after = jnp.linalg.norm(vector)
        eps = jnp.finfo(vector.dtype).eps
        return _unit(vector), after > 100 * eps * before

    new, exists = outside(candidate)
    return jnp.where(exists, new, outside(spare)[0])
