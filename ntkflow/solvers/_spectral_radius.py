"""The spectral radius of a vector field's Jacobian, by power iteration.

A coupled state is a dictionary whose Jacobian is block triangular, so each block is
iterated by itself: the blocks off the diagonal, which can be large, move no eigenvalue.
The vectors are kept between calls, since a Jacobian's leading one turns slowly.
"""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._types import BoolScalar, IntScalar, Scalar
from ._term import FlowTerm, unwrapped

Blocks = dict[str, Any]
"""Parts of a state: a flow's each, or the whole of an unknown state."""

_WHOLE = "whole"


class Radius(NamedTuple):
    """What power iteration knows.

    Attributes:
        value: The largest spectral radius of a block, in units of 1/time.
        vectors: A unit vector a block, close to its leading eigenvector.
        settled: Whether the last iterations agreed.
        products: Jacobian-vector products of whole states made.
    """

    value: Scalar
    vectors: dict[str, Float[Array, " n"]]
    settled: BoolScalar
    products: IntScalar


def split(term: dfx.AbstractTerm, y: PyTree[Array]) -> Blocks:
    """The diagonal blocks of a term's Jacobian.

    Args:
        term: A term.
        y: Its state.

    Returns:
        The parts of the state by name.
    """
    return dict(y) if isinstance(unwrapped(term), FlowTerm) else {_WHOLE: y}


def first_guess(
    term: dfx.AbstractTerm, y: PyTree[Array], slope: PyTree[Array]
) -> Radius:
    """Where the first power iteration starts.

    A flow moves mostly along its stiff directions, so its derivative is a good guess;
    noise beside it keeps the guess from being orthogonal to what is sought.

    Args:
        term: A term.
        y: The state.
        slope: Its derivative.

    Returns:
        Nothing known but vectors.
    """
    vectors = {}
    names = sorted(split(term, y))
    for i, name in enumerate(names):
        flat = ravel_pytree(split(term, slope)[name])[0]
        noise = jax.random.normal(jax.random.key(i), flat.shape, flat.dtype)
        vectors[name] = _unit(_unit(flat) + 0.1 * _unit(noise))
    zero = jnp.zeros((), next(iter(vectors.values())).dtype)
    return Radius(zero, vectors, jnp.asarray(True), jnp.asarray(0, jnp.int32))


def estimate_radius(
    term: dfx.AbstractTerm,
    t: Any,
    y: PyTree[Array],
    args: Any,
    known: Radius,
    *,
    rtol: float,
    max_products: int,
) -> Radius:
    """Iterates until two estimates agree; an estimate is never above the norm.

    Args:
        term: A term.
        t: Time.
        y: The state.
        args: Arguments of the vector field.
        known: What is known from before.
        rtol: Relative change at which it has settled.
        max_products: Products a block may take.

    Returns:
        The radius at this state.

    Source: Sommeijer, Shampine & Verwer (1998), section 3.
    Verified by:
        tests/solvers/test_spectral_radius.py::test_radius_is_that_of_the_largest_block
    """
    found = [
        _block_radius(term, t, y, args, name, vector, rtol, max_products)
        for name, vector in known.vectors.items()
    ]
    return Radius(
        jnp.max(jnp.stack([one.value for one in found])),
        dict(zip(known.vectors, (one.vector for one in found), strict=True)),
        jnp.stack([one.settled for one in found]).all(),
        jnp.max(jnp.stack([one.products for one in found])),
    )


class _Iterate(NamedTuple):
    value: Scalar
    vector: Float[Array, " n"]
    settled: BoolScalar
    products: IntScalar


def _block_radius(
    term: dfx.AbstractTerm,
    t: Any,
    y: PyTree[Array],
    args: Any,
    name: str,
    vector: Float[Array, " n"],
    rtol: float,
    max_products: int,
) -> _Iterate:
    flat, unravel = ravel_pytree(split(term, y)[name])

    def own(block: Float[Array, " n"]) -> Float[Array, " n"]:
        part = unravel(block)
        whole = part if name == _WHOLE else {**y, name: part}
        return ravel_pytree(split(term, term.vf(t, whole, args))[name])[0]

    _, product = jax.linearize(own, flat)

    def iterate(before: _Iterate) -> _Iterate:
        image = product(before.vector)
        value = jnp.linalg.norm(image)
        settled = jnp.abs(value - before.value) <= rtol * value
        moved = jnp.where(value > 0, _unit(image), before.vector)
        return _Iterate(value, moved, settled, before.products + 1)

    def goes_on(before: _Iterate) -> BoolScalar:
        return ~before.settled & (before.products < max_products)

    start = _Iterate(
        jnp.asarray(-1.0, vector.dtype),
        vector,
        jnp.asarray(False),
        jnp.asarray(0, jnp.int32),
    )
    return jax.lax.while_loop(goes_on, iterate, start)


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    norm = jnp.linalg.norm(vector)
    positive = norm > 0
    return jnp.where(positive, vector / jnp.where(positive, norm, 1), vector)
