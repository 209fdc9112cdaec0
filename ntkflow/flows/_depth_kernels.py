"""Kernels of a Neural ODE whose parameters are functions of depth.

At a depth s, the parameters there move the outputs by G(s) = A(s) v_θ(s, z(s)), with A
the adjoint. If θ(s) = Σ_b B_b(s) θ_b, the field's part of the kernel is the double
integral of κ(s, s') G(s) G'(s')ᵀ with κ = Σ_b B_b B_b; tied parameters are the one
function 1. In a basis complete in L², κ is a delta, and one integral is left.

Depth is solved here and not among `kernels`, which integrate nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from .._precision import at_full_precision
from .._types import Params
from ..kernels import ntk
from ..models import BasisField, Depth, Frozen, NeuralODE, partition

FullKernel = Float[Array, "N1 K N2 K"]


@at_full_precision
def depth_kernel(
    model: PyTree,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None = None,
    *,
    basis: Callable[..., Float[Array, " B"]] | None = None,
    nodes: int = 32,
) -> FullKernel:
    """The kernel with the field's parameters a function of depth, by quadrature.

    Without a basis in L²: Θ = ∫ G(s) G'(s)ᵀ ds, plus the parts of encoder and readout.
    With one, Σ_b (∫ B_b G ds)(∫ B_b G' ds)ᵀ: the kernel of θ(s) = Σ_b B_b(s) θ_b at
    parameters that are the same at every depth. A is the derivative of the discrete
    solve with respect to its states at the nodes of Gauss's rule, at which steps end.

    Args:
        model: The Neural ODE; its field's parameters are the same at every depth.
        x1: Examples along the rows.
        x2: Examples along the columns; by default those along the rows.
        basis: t -> [B], any callable; None for L². Its attribute `jumps`, if there is
            one, says where it jumps.
        nodes: Gauss's nodes in each stretch without a jump; the error falls faster
            than any power of them if the field is smooth.

    Returns:
        The full kernel [N1, K, N2, K].

    Raises:
        ValueError: If the model is no `NeuralODE` of constant parameters, or `nodes`
            is no positive number.

    Source: Massaroli, Poli, Park, Yamashita and Asama (2020), section 3, theorem 1
        (the gradient in L²).
    Verified by: tests/flows/test_depth_kernels.py::test_two_forms_of_l2_agree,
        tests/flows/test_depth_kernels.py::test_pieces_approach_l2_at_second_order,
        tests/flows/test_depth_kernels.py::test_kernel_in_a_basis_is_the_double_integral
    """
    _check(model)
    if not isinstance(nodes, int) or nodes < 1:
        raise ValueError(f"`nodes` must be a positive integer, got {nodes!r}.")
    rule = _gauss(model.depth.t1, nodes, tuple(getattr(basis, "jumps", ())))
    weights = np.diag(rule.weights)
    if basis is not None:
        with jax.ensure_compile_time_eval():
            values = np.asarray(jax.vmap(basis)(jnp.asarray(rule.ts)))
        factors = rule.weights[:, None] * values
        weights = factors @ factors.T
    params, static = partition(model.field)

    def paths(x: Shaped[Array, "N ..."]) -> tuple[Array, Array]:
        return jax.vmap(lambda xi: _path(model, xi, rule))(x)

    def jacobians(path: tuple[Array, Array], m: Array) -> Params:
        z, a = path
        t = jnp.asarray(rule.ts, z.dtype)[m]

        def one(z: Array, a: Array) -> Params:
            _, pull = jax.vjp(lambda p: eqx.combine(p, static)(t, z), params)
            return jax.vmap(lambda row: pull(row)[0])(a)

        return jax.vmap(one)(z[:, m], a[:, m])

    first = paths(x1)
    second = first if x2 is None else paths(x2)
    count = jnp.arange(len(rule.ts))
    field = _weighted_gram(
        jax.lax.map(lambda m: jacobians(first, m), count),
        jax.lax.map(lambda m: jacobians(second, m), count),
        weights,
    )
    return field + _outside(model, x1, x2)


@at_full_precision
def lyapunov_kernel(
    model: PyTree,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None = None,
) -> FullKernel:
    """The kernel with the field's parameters in L² of depth, as an equation per pair.

    Ṁ = v_z(z) M + M v_z(z')ᵀ + v_θ(z) v_θ(z')ᵀ beside both states, from the encoder's
    kernel; then Θ = R_z M(t1) R_z'ᵀ plus the readout's kernel. Solved at the model's
    tolerances, which hold for M as well.

    Args:
        model: The Neural ODE; its field's parameters are the same at every depth.
        x1: Examples along the rows.
        x2: Examples along the columns; by default those along the rows.

    Returns:
        The full kernel [N1, K, N2, K].

    Raises:
        ValueError: If the model is no `NeuralODE` of constant parameters.

    Source: Hairer, Norsett and Wanner (1993), section I.14 (the sensitivities whose
        product M is).
    Verified by: tests/flows/test_depth_kernels.py::test_two_forms_of_l2_agree
    """  # ruff: ignore[docstring-extraneous-exception]
    _check(model)

    def pair(x: Array, y: Array) -> Float[Array, "K K"]:
        z0, w0 = model.encode(x), model.encode(y)
        m0 = _gram(
            _of(model, "encoder", "encode", x, z0.size),
            _of(model, "encoder", "encode", y, w0.size),
        )
        start = z0, w0, jnp.zeros((z0.size, w0.size), z0.dtype) + m0
        z, w, m = model.depth(_Pair(model.field), start)
        rows, columns = (
            jax.jacrev(model.decode)(s).reshape(-1, s.size) for s in (z, w)
        )
        outside = _gram(
            _of(model, "readout", "decode", z, len(rows)),
            _of(model, "readout", "decode", w, len(columns)),
        )
        return rows @ m @ columns.T + outside

    second = x1 if x2 is None else x2
    kernel = jax.vmap(lambda x: jax.vmap(lambda y: pair(x, y))(second))(x1)
    return jnp.moveaxis(kernel, 1, 2)


@final
class _Pair(eqx.Module):
    """Two states and M between them."""

    field: Callable[..., Any]

    def __call__(self, t: Float[Array, ""], state: Any) -> Any:
        z, w, m = state
        params, static = partition(self.field)

        def flat(p: Any, z: Array) -> Array:
            return jnp.ravel(eqx.combine(p, static)(t, z))

        def slopes(z: Array) -> tuple[Array, list[Array]]:
            by_params, by_state = jax.jacrev(flat, (0, 1))(params, z)
            return by_state.reshape(z.size, z.size), _rows(by_params, z.size)

        (a, p), (b, q) = slopes(z), slopes(w)
        change = a @ m + m @ b.T + _gram(p, q)
        return self.field(t, z), self.field(t, w), change


@final
class _Segment(eqx.Module):
    """The field between two depths, in a time that runs from 0 to 1."""

    field: Callable[..., Any]
    start: Float[Array, ""]
    length: Float[Array, ""]

    def __call__(self, s: Float[Array, ""], z: Float[Array, "..."]) -> Any:
        return self.length * self.field(self.start + s * self.length, z)


class _Rule(NamedTuple):
    """Nodes in depth and the weights of an integral over it."""

    ts: Float[np.ndarray, " M"]
    weights: Float[np.ndarray, " M"]


def _gauss(t1: float, nodes: int, jumps: tuple[float, ...]) -> _Rule:
    """Gauss's rule on every stretch between jumps."""
    s, w = np.polynomial.legendre.leggauss(nodes)
    edges = np.array([0.0, *jumps, t1])
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    ts = middle[:, None] + half[:, None] * s
    return _Rule(ts.ravel(), (half[:, None] * w).ravel())


def _path(model: NeuralODE, x: Array, rule: _Rule) -> tuple[Array, Array]:
    """States [M, ...] and adjoints [M, K, ...] at the nodes of one example."""
    z0, own = model.encode(x), model.depth
    depth = Depth(
        solver=own.solver,
        rtol=own.rtol,
        atol=own.atol,
        controller=None if own.controller is None else own.controller.tree,
        max_steps=own.max_steps or 4096,
    )
    edges = np.array([0.0, *rule.ts, own.t1])
    starts, lengths = (jnp.asarray(v, z0.dtype) for v in (edges[:-1], np.diff(edges)))

    def run(taps: Float[Array, "M1 ..."]) -> tuple[Array, Array]:
        def step(z: Array, at: Any) -> tuple[Array, Array]:
            start, length, tap = at
            z = depth(_Segment(model.field, start, length), z) + tap
            return z, z

        z, states = jax.lax.scan(step, z0, (starts, lengths, taps))
        return model.decode(z), states

    taps = jnp.zeros((len(starts), *z0.shape), z0.dtype)
    f, pull, states = jax.vjp(run, taps, has_aux=True)
    (adjoints,) = jax.vmap(pull)(jnp.eye(f.size, dtype=f.dtype))
    return states[:-1], jnp.moveaxis(adjoints, 0, 1)[:-1]


def _weighted_gram(
    first: PyTree[Float[Array, "M N1 K ..."]],
    second: PyTree[Float[Array, "M N2 K ..."]],
    weights: Float[np.ndarray, "M M"],
) -> FullKernel:
    """Σ over nodes m and m' of w_{mm'} G_m G'_{m'}ᵀ."""
    total: Any = 0.0
    for a, b in zip(jtu.tree_leaves(first), jtu.tree_leaves(second), strict=True):
        a, b = (g.reshape(*g.shape[:3], -1) for g in (a, b))
        b = jnp.tensordot(jnp.asarray(weights, b.dtype), b, axes=1)
        total = total + jnp.einsum("mikp,mjlp->ikjl", a, b, precision="highest")
    return total


def _outside(model: NeuralODE, x1: Array, x2: Array | None) -> Any:
    """What the parameters of encoder and readout add, which have no depth."""
    if not any(map(_has_parameters, (model.encoder, model.readout))):
        return 0.0
    mask = jtu.tree_map(lambda _: True, model)
    frozen = jtu.tree_map(lambda _: False, model.field)
    mask = eqx.tree_at(lambda m: m.field, mask, frozen)
    return ntk(model, x1, x2, outputs="full", trainable=mask)


def _has_parameters(module: Any) -> bool:
    leaves = jtu.tree_leaves(module, is_leaf=lambda n: isinstance(n, Frozen))
    return any(map(eqx.is_inexact_array, leaves))


def _of(
    model: NeuralODE, part: str, method: str, at: Array, size: int
) -> list[Float[Array, "size _"]]:
    """The Jacobian of encoder or readout in its own parameters, leaf by leaf."""
    module = getattr(model, part)
    if not _has_parameters(module):
        return []
    params, static = partition(module)

    def outputs(p: Any) -> Array:
        changed = eqx.tree_at(lambda m: getattr(m, part), model, eqx.combine(p, static))
        return getattr(changed, method)(at)

    return _rows(jax.jacrev(outputs)(params), size)


def _rows(jacobian: PyTree, size: int) -> list[Float[Array, "size _"]]:
    return [leaf.reshape(size, -1) for leaf in jtu.tree_leaves(jacobian)]


def _gram(first: list[Array], second: list[Array]) -> Any:
    products = [a @ b.T for a, b in zip(first, second, strict=True)]
    return sum(products[1:], start=products[0]) if products else 0.0


def _check(model: Any) -> None:
    if not isinstance(model, NeuralODE):
        raise ValueError(
            "A kernel in depth is that of a NeuralODE, whose field has parameters at "
            f"every depth, got {type(model).__name__}."
        )
    if getattr(model.field, "jumps", ()) or isinstance(model.field, BasisField):
        raise ValueError(
            "The field's parameters must be the same at every depth; the kernel of a "
            "field in a basis is nf.ntk(model, x)."
        )
    fixed = model.depth.tolerances(jnp.float64) is None
    if fixed or model.depth.event is not None:
        raise ValueError(
            "The depth must end at t1, without an event, and the controller must adapt "
            "its steps to tolerances."
        )
