"""Goursat problems: ∂²u/∂t∂s = f with u known on both axes, marched over a grid.

A cell of the grid ties its four corners to f in its middle, where u is the mean of the
two corners that neither precede nor follow the others:

    u₊₊ = u₊₋ + u₋₊ − u₋₋ + h² f((u₊₋ + u₋₊)/2)

The rule is explicit, and the same when both times are reversed, so that the error is a
series in h². The cells of an antidiagonal are independent of each other: a grid of n²
cells takes 2n − 1 steps.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

SWEEPS: Final = 8
"""Repetitions of a row in which a variance is found along with covariances. Each
divides the error by about n: after eight it is far below that of the grid."""

State = PyTree[Float[Array, "..."]]
Middles = PyTree[Float[Array, "n ..."]]


def march(
    rate: Callable[[Int[Array, " n"], Int[Array, " n"], Middles], Middles],
    start: State,
    n: int,
    t1: float,
) -> State:
    """u(t1, t1), where u is constant on both axes.

    Args:
        rate: f in the middles of n cells, from their numbers along t, along s, and u
            there. Cells may be outside the grid; what comes of those is not used.
        start: u on the axes.
        n: Cells along either time.
        t1: Where both times end; they begin at 0.

    Returns:
        u in the corner opposite the start, of the structure of `start`.

    Source: The integral of ∂²u/∂t∂s = f over a cell, by the midpoint rule.

    Verified by: tests/infinite/test_tied_depth.py::test_grid_is_of_second_order
    """
    step2 = (t1 / n) ** 2
    along = jnp.arange(n)

    def advance(carry: tuple[State, State], m: Int[Array, ""]) -> tuple:
        before, last = carry
        other = m - along
        inside = (other >= 0) & (other < n)
        middles = jax.tree.map(lambda u: (u[1:] + u[:-1]) / 2, last)
        found = rate(along, jnp.clip(other, 0, n - 1), middles)

        def corner(edge: Array, before: Array, last: Array, f: Array) -> Array:
            here = inside.reshape(n, *(1,) * edge.ndim)
            moved = last[1:] + last[:-1] - before[:-1] + step2 * f
            return jnp.concatenate([edge[None], jnp.where(here, moved, edge[None])])

        return (last, jax.tree.map(corner, start, before, last, found)), None

    first = jax.tree.map(lambda u: jnp.broadcast_to(u, (n + 1, *u.shape)), start)
    (_, last), _ = jax.lax.scan(advance, (first, first), jnp.arange(2 * n - 1))
    return jax.tree.map(lambda u: u[n], last)


def march_own(
    rate: Callable[
        [Float[Array, "n N"], Float[Array, "n N"], Float[Array, "n N"]],
        Float[Array, "n N"],
    ],
    start: Float[Array, " N"],
    n: int,
    t1: float,
) -> tuple[Float[Array, "n N"], Float[Array, " N"]]:
    """The variances c(t, t), where f(t, s) also depends on those at t and at s.

    With c symmetric only cells with s ≤ t are needed. Those of one t depend on the
    variance there, which is the last of them: all are found together, in sweeps.

    Args:
        rate: f from c, c(t, t) and c(s, s), in the middles of cells.
        start: c on the axes.
        n: Cells along either time.
        t1: Where both times end.

    Returns:
        c(t, t) in the middles of the n intervals of time, and at t1.

    Verified by: tests/infinite/test_tied_depth.py::test_grid_is_of_second_order
    """
    step2 = (t1 / n) ** 2
    numbers = jnp.arange(n)

    def row(carry: tuple[Array, Array], i: Int[Array, ""]) -> tuple:
        last, middles = carry
        inside = (numbers <= i)[:, None]

        def sweep(_: Any, guess: tuple[Array, Array]) -> tuple[Array, Array]:
            new, middles = guess
            # By symmetry both corners of the cell on the diagonal are its middle.
            below = last.at[i + 1].set(new[i])
            middles = middles.at[i].set(new[i])
            now = jnp.broadcast_to(new[i], middles.shape)
            f = rate((new[:-1] + below[1:]) / 2, now, middles)
            risen = below[1:] + step2 * jnp.cumsum(jnp.where(inside, f, 0.0), axis=0)
            risen = jnp.where(inside, risen, start[None])
            return jnp.concatenate([start[None], risen]), middles

        return jax.lax.fori_loop(0, SWEEPS, sweep, (last, middles)), None

    first = jnp.broadcast_to(start, (n + 1, *start.shape))
    (last, middles), _ = jax.lax.scan(row, (first, first[:-1]), numbers)
    return middles, last[n]


def extrapolate(values: Sequence[State]) -> tuple[State, State]:
    """Richardson's extrapolation of an error that is a series in h².

    Args:
        values: On grids of n, 2n, 4n, ... cells, two or more of them.

    Returns:
        The limit, and how far it is from the next best value.

    Source: Richardson (1911); Hairer, Nørsett & Wanner (1993), section II.9.

    Verified by: tests/infinite/test_tied_depth.py::test_linear_branch_gives_bessel
    """
    column = list(values)
    best = column[-1]
    power = 1.0
    while len(column) > 1:
        power, best = 4 * power, column[-1]
        column = [
            jax.tree.map(lambda a, b, p=power: b + (b - a) / (p - 1), coarse, fine)
            for coarse, fine in itertools.pairwise(column)
        ]
    error = jax.tree.map(lambda a, b: jnp.abs(a - b), column[0], best)
    return column[0], error
