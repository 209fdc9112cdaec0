"""Quantities that gradient flow conserves, for the models that have some.

A symmetry of the network in its parameters gives a conserved quantity, as in Noether's
theorem. Multiplying the weights into a hidden layer by an invertible A and the weights
out of it by A⁻¹ changes no output if the layer is linear, and with A diagonal and
positive if its activation is positively homogeneous, φ(sh) = sφ(h) for s > 0. Since
∇L is orthogonal to the orbit, θ̇ = −c∇L conserves

    linear:       W_outᵀ W_out − (W_in W_inᵀ + b_in b_inᵀ)        (a matrix),
    homogeneous:  the diagonal of that matrix                     (a number a unit).

W and b are the trained arrays themselves. A layer's scales, which is where
parameterizations differ, multiply the layer as a whole and commute with the symmetry,
and c multiplies all gradients alike, so the laws are the same in every
parameterization. A wrapper that only combines outputs leaves them as they are. L2 decay
breaks the symmetry, a force of inertia the balance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._types import Params
from ..models import (
    ACTIVATIONS,
    CNN,
    MLP,
    Antisymmetric,
    DeepLinear,
    DiagonalLinear,
    Scaled,
)
from ..problem import Problem
from ._kernel import frobenius

_HOMOGENEOUS = tuple(ACTIVATIONS[name] for name in ("relu", "leaky_relu", "abs"))


@dataclass(frozen=True)
class ConservationLaw:
    """One quantity a − b that gradient flow conserves.

    Attributes:
        name: Which layers or arrays it is about.
        terms: From the trained leaves, a and b.
    """

    name: str
    terms: Callable[[Params], tuple[Array, Array]]

    def drift(self, params: Params, params0: Params) -> Float[Array, ""]:
        """The change of a − b, relative to the size of a and b.

        The conserved quantity itself may well be zero, so it is no unit to measure its
        own change in; the larger of ‖a‖ + ‖b‖ at both moments is.

        Args:
            params: θ_t.
            params0: θ₀.

        Returns:
            A scalar; NaN if a and b vanish at both moments.
        """
        a, b = self.terms(params)
        a0, b0 = self.terms(params0)
        scale = jnp.maximum(frobenius(a) + frobenius(b), frobenius(a0) + frobenius(b0))
        return frobenius((a - b) - (a0 - b0)) / scale


def conservation_laws(problem: Problem) -> tuple[ConservationLaw, ...]:
    """The quantities that gradient flow of this problem conserves.

    Known are those of `DeepLinear`, of `MLP` and `CNN` with a linear or positively
    homogeneous activation (`"identity"`, `"relu"`, `"leaky_relu"`, `"abs"`) and of
    `DiagonalLinear`, also inside `Scaled` and `Antisymmetric`, wherever all arrays of a
    law are trained and there is no decay. Biases are no hindrance.

    Args:
        problem: The problem.

    Returns:
        The laws, none where none is known.

    Source: Du, Hu & Lee (2018), theorems 2.1 and 2.2; Woodworth et al. (2020),
    section 4, for diagonal linear networks.
    Verified by:
        tests/measures/test_conservation.py::test_gradient_flow_conserves_every_law,
        tests/measures/test_conservation.py::test_laws_are_kept_to_the_order_of_the_integrator
    """
    if problem.decay is not None:
        return ()
    return tuple(_find_laws(problem, lambda tree: tree, ""))


def _find_laws(
    problem: Problem, part: Callable[[Any], Any], prefix: str
) -> Iterator[ConservationLaw]:
    # Laws of the submodel that `part` finds in the model, and in trees like it.
    model = part(problem.model)
    if isinstance(model, Scaled):
        yield from _find_laws(problem, lambda m: part(m).model, f"{prefix}model.")
    elif isinstance(model, Antisymmetric):
        yield from _find_laws(problem, lambda m: part(m).a, f"{prefix}a.")
        yield from _find_laws(problem, lambda m: part(m).b, f"{prefix}b.")
    elif isinstance(model, DiagonalLinear):
        yield from _diagonal_laws(problem, part, prefix)
    elif isinstance(model, DeepLinear | MLP | CNN):
        yield from _layer_laws(problem, part, prefix)


def _diagonal_laws(
    problem: Problem, part: Callable[[Any], Any], prefix: str
) -> Iterator[ConservationLaw]:
    # u·v, entry by entry: u̇ = −gu and v̇ = gv with one g, as f = Σ(u² − v²)x.
    def product(params: Params) -> tuple[Array, Array]:
        own = part(params)
        return own.u * own.v, jnp.zeros_like(own.u)

    trained = part(problem.params)
    if trained.u is not None and trained.v is not None:
        yield ConservationLaw(f"{prefix}u*{prefix}v", product)


def _layer_laws(
    problem: Problem, part: Callable[[Any], Any], prefix: str
) -> Iterator[ConservationLaw]:
    # One law for each two consecutive layers whose arrays are trained.
    model = part(problem.model)
    activation = getattr(model, "activation", ACTIVATIONS["identity"])
    if activation is ACTIVATIONS["identity"]:
        form = _gram
    elif any(activation is known for known in _HOMOGENEOUS):
        form = _squares
    else:
        return

    def layers(tree: Any) -> tuple[Any, ...]:
        own = part(tree)
        return (*own.layers, own.readout) if isinstance(own, CNN) else own.layers

    names = [f"{prefix}layers[{i}]" for i in range(len(model.layers))]
    if isinstance(model, CNN):
        names.append(f"{prefix}readout")
    trained, whole = layers(problem.params), layers(problem.model)
    for i in range(len(names) - 1):
        fixed_weight = trained[i].weight is None or trained[i + 1].weight is None
        fixed_bias = whole[i].bias is not None and trained[i].bias is None
        if not fixed_weight and not fixed_bias:
            yield ConservationLaw(
                f"{names[i]} to {names[i + 1]}",
                lambda params, i=i: (
                    form(_outgoing(layers(params)[i : i + 2])),
                    form(_incoming(layers(params)[i])),
                ),
            )


def _incoming(layer: Any) -> Float[Array, "units fan_in"]:
    # The weights and the bias into each unit: a neuron, or a channel.
    weight = layer.weight.reshape(layer.weight.shape[0], -1)
    if layer.bias is None:
        return weight
    return jnp.concatenate([weight, layer.bias[:, None]], axis=1)


def _outgoing(layers: tuple[Any, Any]) -> Float[Array, "units fan_out"]:
    # The weights out of each unit of the first layer, which the second one holds.
    units = layers[0].weight.shape[0]
    weight = layers[1].weight
    # A readout of flattened features has a block of positions for every channel.
    by_unit = weight.reshape(weight.shape[0], units, -1)
    return jnp.moveaxis(by_unit, 1, 0).reshape(units, -1)


def _gram(rows: Float[Array, "units fan"]) -> Float[Array, "units units"]:
    return jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)


def _squares(rows: Float[Array, "units fan"]) -> Float[Array, " units"]:
    return jnp.sum(rows**2, axis=1)
