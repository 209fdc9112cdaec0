"""What one example is reduced to before any pair is contracted.

One reverse pass over all taps at once gives every cotangent, and the Jacobian of every
leaf whose uses are not known.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.kernels._factors import KEEPING, Factors
from ntkflow.kernels._methods import Request, Side
from ntkflow.kernels._program import Frame, Program, read, run
from ntkflow.kernels._uses import Group, Use
from ntkflow.kernels._views import Operand, Rows, Selected, outer_products


class Features(NamedTuple):
    """What is kept of an example; with a leading axis, of several.

    Attributes:
        cotangents: For each distinct set of taps g [K, B, S, R].
        operands: For each factored or nested leaf and each of its groups u [B, S, C].
        jacobians: For each other leaf its Jacobian [K, 1, P].
        counted: A zero, so that examples are counted where there is nothing else.
    """

    cotangents: list[Array]
    operands: list[list[Operand]]
    jacobians: list[Array]
    counted: Array


def distinct(factors: Factors) -> dict[object, Group]:
    """One group for every distinct set of taps whose cotangents are kept.

    Args:
        factors: How each leaf enters.

    Returns:
        Groups by their taps.
    """
    return {group.taps: group for group in factors.kept}


def make_features(
    request: Request, side: Side, factors: Factors, leaves: Sequence[Array], x: Array
) -> Features:
    """Reduce one example.

    Args:
        request: What is to be computed.
        side: Where the example is.
        factors: How each leaf enters there.
        leaves: The trained leaves.
        x: The example.

    Returns:
        Its features.
    """
    program, dtype = factors.program, request.dtype
    unknown = [i for i, groups in enumerate(factors.groups) if groups is None]
    zeros = {slot: _zeros(program, slot) for slot in sorted(_taps(factors))}

    def tapped(
        varied: Sequence[Array], taps: Mapping[int, Array]
    ) -> tuple[Array, list[list[Operand]]]:
        given = list(leaves)
        for i, leaf in zip(unknown, varied, strict=True):
            given[i] = leaf
        output, env = run(program, given, x, taps, _kept(factors))
        operands = [
            [_stack_operands(program, env, group, dtype) for group in groups or ()]
            for groups in factors.groups
        ]
        return output, operands

    varied = [leaves[i] for i in unknown]
    _, pull, operands = jax.vjp(tapped, varied, zeros, has_aux=True)
    basis = jnp.eye(side.n_outputs, dtype=side.traced.dtype)
    pulled_leaves, pulled = jax.vmap(pull)(basis)
    pulled_leaves = dict(zip(unknown, pulled_leaves, strict=True))
    found = {
        id(group): u
        for groups, us in zip(factors.groups, operands, strict=True)
        for group, u in zip(groups or (), us, strict=True)
    }
    jacobians = [
        _flat(pulled_leaves[i], dtype)
        if groups is None
        else _assemble(groups, operands[i], pulled, dtype)
        for i, groups in enumerate(factors.groups)
        if factors.forms[i] not in KEEPING
    ]
    return Features(
        cotangents=[
            _stack_cotangents(pulled, group, dtype, found[id(group)])
            for group in distinct(factors).values()
        ],
        operands=[
            u
            for u, form in zip(operands, factors.forms, strict=True)
            if form in KEEPING
        ],
        jacobians=jacobians,
        counted=jnp.zeros((), dtype),
    )


def _taps(factors: Factors) -> set[int]:
    return {use.tap for group in factors.known for use in group.uses}


def _kept(factors: Factors) -> frozenset[int]:
    """Slots inside loops that operands and their factors are read off."""
    uses = [use for group in factors.known for use in group.uses]
    atoms = [use.operand for use in uses]
    atoms += [scale.atom for use in uses for scale in use.scales]
    return frozenset(
        atom for atom in atoms if isinstance(atom, int) and factors.program.frame(atom)
    )


def _zeros(program: Program, slot: int) -> Array:
    aval = program.avals[slot]
    shape = (*program.counts(program.frames[slot]), *aval.shape)
    return jnp.zeros(shape, aval.dtype)


def _flat(jac: Float[Array, "K ..."], dtype: Any) -> Float[Array, "K 1 P"]:
    return jac.astype(dtype).reshape(jac.shape[0], 1, math.prod(jac.shape[1:]))


def _assemble(
    groups: Sequence[Group],
    operands: Sequence[Operand],
    pulled: Mapping[int, Array],
    dtype: Any,
) -> Float[Array, "K 1 P"]:
    """The Jacobian of a leaf from the cotangents and operands of its uses."""
    parts = [
        outer_products(_stack_cotangents(pulled, group, dtype, u), u, group.n_columns)
        for group, u in zip(groups, operands, strict=True)
    ]
    return jnp.concatenate(parts, axis=1)[:, None]


def _stack_cotangents(
    pulled: Mapping[int, Float[Array, "K ..."]], group: Group, dtype: Any, u: Operand
) -> Float[Array, "K B S R"]:
    """The cotangents of a group's taps, stacked along positions.

    Where a lookup misses its table there is none: what is there may be infinite, such
    as the slope of a norm at padding, and times zero would be no number.
    """  # ruff: ignore[docstring-missing-returns]
    stacked = []
    for use in group.uses:
        g = pulled[use.tap].astype(dtype)
        g = g.reshape(g.shape[0], *use.tap_shape)
        axes = (*use.blocks, *use.positions, *use.rows)
        g = jnp.transpose(g, (0, *(1 + axis for axis in axes)))
        stacked.append(g.reshape(g.shape[0], group.n_blocks, -1, group.n_rows))
    g = jnp.concatenate(stacked, axis=2)
    if isinstance(u, Selected):
        g = jnp.where((u.rows >= 0)[None, :, :, None], g, jnp.zeros((), dtype))
    return g


def _stack_operands(
    program: Program, env: Mapping[int, Any], group: Group, dtype: Any
) -> Operand:
    """The operands of a group's uses with their scalar factors, stacked likewise."""
    found = [_operand(program, env, group, use, dtype) for use in group.uses]
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *found)


def _operand(
    program: Program, env: Mapping[int, Any], group: Group, use: Use, dtype: Any
) -> Operand:
    frame = program.frames[use.tap]
    counts = program.counts(frame)
    factor = jnp.full(counts, use.sign, dtype)
    for scale in use.scales:
        value = _spread(program, env, scale.atom, frame).astype(dtype)
        factor = factor / value if scale.inverse else factor * value
    u = _viewed(program, env, use, frame, dtype)
    factor = factor.reshape(*counts, *(1,) * (u.ndim - len(counts)))
    axes = (*use.operand_blocks, *use.operand_positions, *use.operand_columns)
    if isinstance(use.view, Rows):
        weights = jnp.where(u < 0, jnp.zeros((), dtype), factor)  # dropped: nothing
        rows, weights = (
            jnp.transpose(a, axes).reshape(group.n_blocks, -1) for a in (u, weights)
        )
        return Selected(rows, weights)
    u = jnp.transpose(u * factor, axes)
    return u.reshape(group.n_blocks, -1, group.n_columns)


def _viewed(
    program: Program, env: Mapping[int, Any], use: Use, frame: Frame, dtype: Any
) -> Array:
    """The operand as it is read, one leading axis a loop around the tap."""
    if use.operand is None:
        n_loops = len(frame)
        within = [use.tap_shape[axis] for axis in use.positions if axis >= n_loops]
        return jnp.ones((*program.counts(frame), *within), dtype)
    value = _spread(program, env, use.operand, frame)
    if use.view is None:
        return value.astype(dtype)
    view = use.view
    for _ in frame:
        view = jax.vmap(view)
    viewed = view(value)
    return viewed if isinstance(use.view, Rows) else viewed.astype(dtype)


def _spread(program: Program, env: Mapping[int, Any], atom: Any, frame: Frame) -> Array:
    """A value with one leading axis for each loop of a frame it may be constant in."""
    value = jnp.asarray(read(env, atom))
    own = len(program.frame(atom))
    counts = program.counts(frame)
    shape = value.shape[own:]
    value = value.reshape(*counts[:own], *(1,) * (len(counts) - own), *shape)
    return jnp.broadcast_to(value, (*counts, *shape))
