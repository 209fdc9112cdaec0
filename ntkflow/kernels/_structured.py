"""The kernel without Jacobians of the weights: cotangents and operands of each matmul.

A weight used as h = W u contributes g uᵀ to the Jacobian, so its part of the kernel is
⟨g_i, g_j⟩⟨u_i, u_j⟩: two small products instead of one as long as the weight. A weight
used at many positions is better contracted in another order (`_factors`): from the
operands outwards, or, where pairs of positions outnumber its entries, through its
Jacobian Σ_s g_s u_sᵀ after all, formed as one product.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow._precision import full_precision
from ntkflow.kernels._factors import (
    FACTORED,
    KEEPING,
    NESTED,
    Factors,
    Pair,
    choose_factors,
    taps_of,
)
from ntkflow.kernels._features import Features, distinct, make_features
from ntkflow.kernels._layouts import AbstractLayout
from ntkflow.kernels._methods import (
    AbstractMethod,
    Estimate,
    LeafPlan,
    Request,
    Side,
    through_jacobian,
)
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._tiles import (
    Cost,
    checked_tiling,
    compute_tiles,
    least_bytes,
    plan_tiles,
)
from ntkflow.kernels._uses import Group
from ntkflow.kernels._views import inner_operands

STACKED: Final = 4
"""Operations of a matmul charged for one number of a cotangent or an operand that a
loop hands out, step after step. With it the cheaper of this method and the contraction
was taken in all of 13 Neural ODEs measured on a CPU (states 2 to 16, widths 32 to 512,
one and two hidden layers); with less than 3.7 or more than 4.9 it was not."""

Sides = tuple[Factors, Factors]
"""How each leaf enters along the rows and along the columns."""


@final
class Structured(AbstractMethod):
    """⟨g, g'⟩⟨u, u'⟩ for weights that meet matmuls, the Jacobian for all other leaves.

    Exact for every module: a leaf that is not understood is not factored.

    Source: Novak, Sohl-Dickstein & Schoenholz (2022), section 3.3 (structured
    derivatives); the sum over positions Σ_{s,s'} ⟨g_s, g'_{s'}⟩⟨u_s, u'_{s'}⟩ is that
    of a weight used S times.

    Verified by: tests/kernels/test_structured.py::test_structured_matches_contraction
    """

    name = "structured"

    def works_with(self, modes: Modes) -> bool:
        """Cotangents are made in reverse.

        Args:
            modes: The derivatives.

        Returns:
            Whether the method can be used.
        """
        return modes.reverse and not modes.mutates

    def estimate(self, request: Request) -> Estimate:
        """What computing a kernel this way needs.

        Args:
            request: What is to be computed.

        Returns:
            Operations and memory.
        """
        leaves = jax.tree.leaves(request.params)
        factors = choose_factors(request, len(leaves))
        cost = _cost(request, factors, leaves)
        plans = _leaf_plans(request, factors[0], leaves)
        return Estimate(
            passes=sum(
                _passes(side, own, leaves)
                for side, own in zip(request.sides, factors, strict=False)
            ),
            contraction=sum(plan.flops for plan in plans),
            least=least_bytes(cost),
            tiling=plan_tiles(request.grid, cost),
            leaves=plans,
        )

    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
        leaves = jax.tree.leaves(request.params)
        factors = choose_factors(request, len(leaves))
        cost = _cost(request, factors, leaves)
        tiling = checked_tiling(self.name, request.grid, cost)

        def features_of(side: Side, own: Factors) -> Callable[..., Features]:
            return jax.vmap(lambda xi: make_features(request, side, own, leaves, xi))

        def contract(first: Features, second: Features) -> tuple[Array, ...]:
            return _contract(request, factors, first, second)

        features = features_of(request.rows, factors[0])
        others = features_of(request.columns, factors[1])
        return compute_tiles(request.grid, features, contract, tiling, others)


def _contract(
    request: Request, factors: Sides, first: Features, second: Features
) -> tuple[Float[Array, "..."], ...]:
    layout, (rows, columns) = request.layout, factors
    cotangents1 = dict(zip(distinct(rows), first.cotangents, strict=True))
    cotangents2 = dict(zip(distinct(columns), second.cotangents, strict=True))

    def cotangents(pair: Pair) -> tuple[Array, Array]:
        return cotangents1[pair[0].taps], cotangents2[pair[1].taps]

    factored = zip(rows.of({FACTORED}), columns.of({FACTORED}), strict=True)
    joined = {taps_of(pair): pair for pair in factored}
    products = {
        taps: _products(layout, *cotangents(pair)) for taps, pair in joined.items()
    }
    jacobians = iter(zip(first.jacobians, second.jacobians, strict=True))
    operands = iter(zip(first.operands, second.operands, strict=True))
    n1, n2 = first.counted.shape[0], second.counted.shape[0]
    unused = jnp.zeros(layout.shape(n1, n2, request.n_outputs), request.dtype)
    kernels = []
    for groups, others, form in zip(
        rows.groups, columns.groups, rows.forms, strict=True
    ):
        if form not in KEEPING:
            kernels.append(layout.gram(*next(jacobians)))
            continue
        kernel = unused
        pairs = zip(groups or (), others or (), strict=True)
        for pair, u1, u2 in zip(pairs, *next(operands), strict=True):
            inner = inner_operands(u1, u2)
            if form == NESTED:
                kernel += _nest(*cotangents(pair), inner)
            else:
                kernel += _join(layout, products[taps_of(pair)], inner)
        kernels.append(kernel)
    return tuple(kernels) if request.by_leaf else (sum(kernels[1:], start=kernels[0]),)


def _products(
    layout: AbstractLayout,
    g1: Float[Array, "n1 K1 B S1 R"],
    g2: Float[Array, "n2 K2 B S2 R"],
) -> Float[Array, "B ..."]:
    if g1.shape[2] == 1:
        return layout.products(g1[:, :, 0], g2[:, :, 0])[None]
    return jax.vmap(layout.products, in_axes=2)(g1, g2)


def _join(
    layout: AbstractLayout,
    products: Float[Array, "B ..."],
    operands: Float[Array, "B n1 S1 n2 S2"],
) -> Float[Array, "..."]:
    if products.shape[0] == 1:
        return layout.join(products[0], operands[0])
    return jnp.sum(jax.vmap(layout.join)(products, operands), axis=0)


def _nest(
    g1: Float[Array, "n1 K1 B S1 R"],
    g2: Float[Array, "n2 K2 B S2 R"],
    operands: Float[Array, "B n1 S1 n2 S2"],
) -> Float[Array, "n1 K1 n2 K2"]:
    """⟨g, ⟨u, u'⟩ g'⟩ of the full layout, every product one of matrices."""
    n1, n_outputs, n_blocks, n_positions, n_rows = g1.shape
    n2, others, _, positions, _ = g2.shape
    # Outputs last, so that what is summed over next lies together.
    beside = jnp.transpose(g2, (0, 2, 3, 4, 1))
    beside = beside.reshape(n2, n_blocks, positions, n_rows * others)
    weights = jnp.transpose(operands, (3, 0, 1, 2, 4))
    weights = weights.reshape(n2, n_blocks, n1 * n_positions, positions)
    with full_precision():
        moved = weights @ beside
        moved = moved.reshape(n2, n_blocks, n1, n_positions * n_rows, others)
        moved = jnp.moveaxis(moved, 1, 2).reshape(n2, n1, -1, others)
        nested = g1.reshape(1, n1, n_outputs, -1) @ moved
    return jnp.transpose(nested, (1, 2, 0, 3))


def _leaf_plans(
    request: Request, factors: Factors, leaves: Sequence[Array]
) -> tuple[LeafPlan, ...]:
    plans = []
    for leaf, groups, form, options in zip(
        leaves, factors.groups, factors.forms, factors.options, strict=True
    ):
        if groups is None:
            plans.append(through_jacobian(request, leaf))
            continue
        shape = tuple(
            (g.n_blocks, g.n_positions, g.n_rows, g.n_columns) for g in groups
        )
        plans.append(LeafPlan(form, shape, options))
    return tuple(plans)


def _numbers_of_loops(factors: Factors, n_outputs: int) -> int:
    """Numbers in the cotangents and operands of one example that loops stack up."""
    looped = [g for g in factors.known if factors.program.frames[g.uses[0].tap]]
    cotangents = {group.taps: group.n_rows for group in looped}
    positions = {group.taps: group.n_blocks * group.n_positions for group in looped}
    operands = sum(g.n_blocks * g.n_positions * g.n_columns for g in looped)
    return operands + sum(
        n_outputs * positions[taps] * rows for taps, rows in cotangents.items()
    )


def _passes(side: Side, factors: Factors, leaves: Sequence[Array]) -> float:
    """Operations of making the features along one side."""
    once = side.traced.flops
    # A reverse pass an output: to the taps, and to the leaves of unknown uses.
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    unknown = sum(
        size
        for size, groups in zip(sizes, factors.groups, strict=True)
        if groups is None
    )
    backward = side.n_outputs * once * (1 + unknown / max(1, sum(sizes)))
    stacked = STACKED * _numbers_of_loops(factors, side.n_outputs)
    return side.n_examples * (once + backward + stacked)


def _positions(group: Group) -> int:
    return group.n_blocks * group.n_positions


def _cost(request: Request, factors: Sides, leaves: Sequence[Array]) -> Cost:
    rows, columns = factors
    (n_outputs, others), itemsize = request.n_outputs, request.dtype.itemsize
    # Every example is allowed what the larger of the two functions takes.
    sides = zip(request.sides, factors, strict=False)
    examples, works = zip(
        *(_example_cost(request, side, own, leaves) for side, own in sides),
        strict=True,
    )
    factored = zip(rows.of({FACTORED}), columns.of({FACTORED}), strict=True)
    # The products of a set of taps live until its leaves have been joined.
    pairs = (request.pairs + 1) * sum(
        _positions(g) * other.n_positions
        for g, other in {taps_of(pair): pair for pair in factored}.values()
    )
    pairs += sum(
        _positions(g) * (2 * other.n_positions + (n_outputs + others) * g.n_rows)
        for g, other in zip(rows.of({NESTED}), columns.of({NESTED}), strict=True)
    )
    kernels = len(leaves) if request.by_leaf else 1
    return Cost(
        example=max(examples),
        work=max(works),
        pair=((kernels + 2) * request.pairs + 2 * pairs) * itemsize,
    )


def _example_cost(
    request: Request, side: Side, factors: Factors, leaves: Sequence[Array]
) -> tuple[int, int]:
    """Bytes of the features of an example, and of making them."""
    n_outputs, itemsize = side.n_outputs, request.dtype.itemsize

    def cotangents(groups: Iterable[Group]) -> int:
        return n_outputs * sum(_positions(g) * g.n_rows for g in groups)

    def operands(groups: Iterable[Group]) -> int:
        return sum(_positions(g) * (2 if g.looks_up else g.n_columns) for g in groups)

    kept = list(distinct(factors).values())
    plain = sum(
        math.prod(leaf.shape)
        for leaf, form in zip(leaves, factors.forms, strict=True)
        if form not in KEEPING
    )
    example = n_outputs * plain + cotangents(kept) + operands(factors.kept)
    # What Jacobians are assembled of is not kept.
    passing = [group for group in factors.known if group not in factors.kept]
    work = cotangents(passing) + operands(passing)
    return example * itemsize, request.work(side) + work * itemsize
