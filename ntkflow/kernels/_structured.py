"""The kernel without Jacobians of the weights: cotangents and operands of each matmul.

A weight used as h = W u contributes g uᵀ to the Jacobian, so its part of the kernel is
⟨g_i, g_j⟩⟨u_i, u_j⟩: two small products instead of one as long as the weight. One
reverse pass over all taps at once gives every g, and the Jacobian of every leaf that
does not factor.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ntkflow.kernels._factors import Factors, choose_factors
from ntkflow.kernels._methods import AbstractMethod, Request
from ntkflow.kernels._program import Program, read, run
from ntkflow.kernels._tiles import Cost, compute_tiles, plan_tiles
from ntkflow.kernels._uses import Group, Use


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
        tiling = plan_tiles(request, cost, self.name)

        def features(x: Shaped[Array, "n ..."]) -> _Features:
            return jax.vmap(lambda xi: _features(request, factors, leaves, xi))(x)

        def contract(first: _Features, second: _Features) -> tuple[Array, ...]:
            return _contract(request, factors, first, second)

        return compute_tiles(request, features, contract, tiling)


class _Features(NamedTuple):
    """What is kept of an example; with a leading axis, of several.

    Attributes:
        cotangents: For each distinct set of taps g [K, S, R].
        operands: For each factored leaf and each of its groups u [S, C].
        jacobians: For each other leaf its Jacobian [K, 1, R].
    """

    cotangents: list[Array]
    operands: list[list[Array]]
    jacobians: list[Array]


def _distinct(factors: Factors) -> dict[object, Group]:
    """One group for every distinct set of taps."""
    return {group.taps: group for group in factors.factored}


def _features(
    request: Request, factors: Factors, leaves: Sequence[Array], x: Array
) -> _Features:
    program, dtype = factors.program, request.dtype
    plain = [i for i, groups in enumerate(factors.groups) if groups is None]
    slots = {use.tap for group in factors.factored for use in group.uses}
    zeros = {
        slot: jnp.zeros(program.avals[slot].shape, program.avals[slot].dtype)
        for slot in sorted(slots)
    }

    def tapped(
        varied: Sequence[Array], taps: Mapping[int, Array]
    ) -> tuple[Array, list[list[Array]]]:
        given = list(leaves)
        for i, leaf in zip(plain, varied, strict=True):
            given[i] = leaf
        output, env = run(program, given, x, taps)
        operands = [
            [_operands(program, env, group, dtype) for group in groups]
            for groups in factors.groups
            if groups is not None
        ]
        return output, operands

    _, pull, operands = jax.vjp(tapped, [leaves[i] for i in plain], zeros, has_aux=True)
    basis = jnp.eye(request.traced.n_outputs, dtype=request.traced.dtype)
    jacobians, pulled = jax.vmap(pull)(basis)
    return _Features(
        cotangents=[
            _cotangents(pulled, group, dtype) for group in _distinct(factors).values()
        ],
        operands=operands,
        jacobians=[
            jac.astype(dtype).reshape(request.traced.n_outputs, 1, -1)
            for jac in jacobians
        ],
    )


def _cotangents(
    pulled: Mapping[int, Float[Array, "K ..."]], group: Group, dtype: Any
) -> Float[Array, "K S R"]:
    """The cotangents of a group's taps, stacked along positions."""
    stacked = []
    for use in group.uses:
        order = (0, *(1 + axis for axis in (*use.positions, *use.rows)))
        g = jnp.transpose(pulled[use.tap].astype(dtype), order)
        stacked.append(g.reshape(g.shape[0], -1, group.n_rows))
    return jnp.concatenate(stacked, axis=1)


def _operands(
    program: Program, env: Mapping[int, Any], group: Group, dtype: Any
) -> Float[Array, "S C"]:
    """The operands of a group's uses with their scalar factors, stacked likewise."""
    return jnp.concatenate([_operand(program, env, use, dtype) for use in group.uses])


def _operand(
    program: Program, env: Mapping[int, Any], use: Use, dtype: Any
) -> Float[Array, "S C"]:
    if use.operand is None:
        u = jnp.ones((1, 1), dtype)
    else:
        order = (*use.operand_positions, *use.operand_columns)
        u = jnp.transpose(jnp.asarray(read(env, use.operand), dtype), order)
        shape = program.aval(use.operand).shape
        columns = math.prod(shape[axis] for axis in use.operand_columns)
        u = u.reshape(-1, columns)
    factor = jnp.asarray(use.sign, dtype)
    for scale in use.scales:
        value = jnp.asarray(read(env, scale.atom), dtype)
        factor = factor / value if scale.inverse else factor * value
    return u * factor


def _contract(
    request: Request, factors: Factors, first: _Features, second: _Features
) -> tuple[Float[Array, "..."], ...]:
    layout = request.layout
    products = {
        taps: layout.products(g1, g2)
        for taps, g1, g2 in zip(
            _distinct(factors), first.cotangents, second.cotangents, strict=True
        )
    }
    jacobians = iter(zip(first.jacobians, second.jacobians, strict=True))
    operands = iter(zip(first.operands, second.operands, strict=True))
    n1, n2 = (jax.tree.leaves(features)[0].shape[0] for features in (first, second))
    unused = jnp.zeros(layout.shape(n1, n2, request.traced.n_outputs), request.dtype)
    kernels = []
    for groups in factors.groups:
        if groups is None:
            kernels.append(layout.gram(*next(jacobians)))
            continue
        kernel = unused
        for group, u1, u2 in zip(groups, *next(operands), strict=True):
            kernel += layout.join(products[group.taps], _inner_operands(u1, u2))
        kernels.append(kernel)
    return tuple(kernels) if request.by_leaf else (sum(kernels[1:], start=kernels[0]),)


def _inner_operands(
    u1: Float[Array, "n1 S C"], u2: Float[Array, "n2 S C"]
) -> Float[Array, "n1 S n2 S"]:
    return jax.lax.dot_general(
        u1, u2, (((2,), (2,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )


def _cost(request: Request, factors: Factors, leaves: Sequence[Array]) -> Cost:
    n_outputs, itemsize = request.traced.n_outputs, request.dtype.itemsize
    distinct = list(_distinct(factors).values())
    plain = sum(
        math.prod(leaf.shape)
        for leaf, groups in zip(leaves, factors.groups, strict=True)
        if groups is None
    )
    cotangents = sum(group.n_positions * group.n_rows for group in distinct)
    operands = sum(group.n_positions * group.n_columns for group in factors.factored)
    # The products of a set of taps live until its leaves have been joined.
    joins = sum((request.pairs + 1) * group.n_positions**2 for group in distinct)
    kernels = len(leaves) if request.by_leaf else 1
    return Cost(
        example=(n_outputs * (plain + cotangents) + operands) * itemsize,
        work=request.work,
        pair=((kernels + 2) * request.pairs + 2 * joins) * itemsize,
    )
