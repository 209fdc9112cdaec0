"""Several layers that read the same units, and what becomes of their outputs."""

import abc
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ntkflow.infinite._agreement import (
    agree,
    check_branches,
    check_independent,
    check_same_units,
    check_zero_mean,
)
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._sequential import Sequential


class Joined(eqx.Module):
    """Finite modules called on the same example, their outputs joined.

    Attributes:
        branches: The modules.
        join: Makes one array of a list of them.
    """

    branches: tuple[Callable[[Any], Any], ...]
    join: Callable[[list[Any]], Any] = eqx.field(static=True)

    def __call__(self, x: Any) -> Any:
        """Apply them.

        Args:
            x: One example.

        Returns:
            The joined outputs.
        """
        return self.join([branch(x) for branch in self.branches])


class AbstractParallel(AbstractLayer):
    """Layers that read the same units, their outputs joined unit by unit or in a row.

    Attributes:
        branches: The layers.
        same_units: Whether all branches must end with the same number of units.
    """

    branches: eqx.AbstractVar[tuple[AbstractLayer, ...]]
    same_units: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def join(self, found: list[Moments]) -> Moments:
        """The moments of what becomes of the branches' outputs.

        Args:
            found: Those of the branches, over the same positions.

        Returns:
            Those of the output.
        """

    @abc.abstractmethod
    def join_arrays(self, outputs: list[Array]) -> Array:
        """What becomes of the finite branches' outputs.

        Args:
            outputs: One example's units and positions, from each branch.

        Returns:
            The output.
        """

    def needs_pairs(self, after: bool) -> bool:
        """Asks every branch.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            Whether any branch asks for them.
        """
        return any(branch.needs_pairs(after) for branch in self.branches)

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of what every branch reads.

        Returns:
            Those of the output.

        Raises:
            ValueError: The branches do not end with the same positions, or not with
                the units that the layer asks for.
        """  # ruff: ignore[docstring-extraneous-exception]
        found = [branch.propagate(moments) for branch in self.branches]
        return self.join(agree(type(self).__name__, found))

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite branches.

        Args:
            shape: Units and positions of one input.
            width: Units of the layers that do not say how many they have.
            key: Random key.

        Returns:
            A module that joins the branches' outputs, and the shape of its own.

        Raises:
            ValueError: The branches' outputs do not go together.
        """
        built = [
            branch.build(shape, width, key=its_key)
            for branch, its_key in zip(
                self.branches, jax.random.split(key, len(self.branches)), strict=True
            )
        ]
        modules, shapes = zip(*built, strict=True)
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        if len({shape[0 if self.same_units else 1 :] for shape in shapes}) > 1:
            raise ValueError(
                f"{type(self).__name__}: the finite branches end with units and "
                f"positions {list(shapes)}, which do not go together: give the last "
                "layer of each branch the same width=..., and the same padding."
            )
        out = jax.eval_shape(self.join_arrays, given)
        return Joined(tuple(modules), self.join_arrays), out.shape


@final
class Sum(AbstractParallel):
    """The sum of branches: Σ' = Σ_b Σ_b and Θ' = Σ_b Θ_b.

    All branches but one must end in random weights of their own, with linear layers at
    most behind them: the cross terms then vanish. `Residual` is the common case.

    Args:
        branches: Layers that read the same units.

    Raises:
        ValueError: There are fewer than two, or two of them do not end in random
            weights.

    Source: Yang (2020), Tensor Programs II, on sums in a program.

    Verified by: tests/infinite/test_branches.py::test_joins_match_finite_networks
    """

    branches: tuple[AbstractLayer, ...]
    same_units: ClassVar[bool] = True

    def __init__(self, branches: Sequence[Any]):
        self.branches = tuple(branches)
        check_branches("Sum", self.branches)
        check_zero_mean("Sum", self.branches)

    @property
    def is_linear(self) -> bool:
        """Zero-mean units stay so where every branch keeps them or is random."""
        return all(branch.is_linear or branch.is_random for branch in self.branches)

    @property
    def is_random(self) -> bool:
        """Whether every branch is."""
        return all(branch.is_random for branch in self.branches)

    def join(self, found: list[Moments]) -> Moments:
        """The moments of the sum.

        Args:
            found: Those of the branches.

        Returns:
            Their sums; Gaussian if all branches are.

        Raises:
            ValueError: The branches have different numbers of units.
        """  # ruff: ignore[docstring-extraneous-exception]
        kinds = ((m.nngp, m.ntk, m.own1, m.own2) for m in found)
        sums = [
            functools.reduce(operator.add, kind) for kind in zip(*kinds, strict=True)
        ]
        return found[0].with_moments(
            *sums,
            channels=check_same_units("Sum", found),
            gaussian=all(moments.gaussian for moments in found),
        )

    def join_arrays(self, outputs: list[Array]) -> Array:
        """The sum.

        Args:
            outputs: One from each branch.

        Returns:
            Their sum.
        """
        return functools.reduce(operator.add, outputs)


@final
class Product(AbstractParallel):
    """The product of branches, unit by unit, as in gated linear units.

        Σ' = Π_b Σ_b,    Θ' = Σ_b Θ_b Π_{c≠b} Σ_c

    All branches but one must have random weights of their own. The product of Gaussian
    units is not Gaussian: a Dense or a Conv must come before the next activation.

    Args:
        branches: Layers that read the same units.

    Raises:
        ValueError: There are fewer than two, or two of them have no random weights.

    Source: the product rule, with factors independent given what they read.

    Verified by: tests/infinite/test_branches.py::test_joins_match_finite_networks
    """

    branches: tuple[AbstractLayer, ...]
    same_units: ClassVar[bool] = True

    def __init__(self, branches: Sequence[Any]):
        self.branches = tuple(branches)
        check_branches("Product", self.branches)
        check_independent("Product", [is_independent(b) for b in self.branches])

    @property
    def is_linear(self) -> bool:
        """Zero-mean units stay so where one factor ends in random weights."""
        return any(branch.is_random for branch in self.branches)

    @property
    def is_random(self) -> bool:
        """A product is zero-mean if one of its independent factors is."""
        independent = all(is_independent(branch) for branch in self.branches)
        return independent and any(branch.is_random for branch in self.branches)

    def join(self, found: list[Moments]) -> Moments:
        """The moments of the product.

        Args:
            found: Those of the branches.

        Returns:
            Those of the product, not Gaussian.

        Raises:
            ValueError: The branches have different numbers of units.
        """  # ruff: ignore[docstring-extraneous-exception]
        units = check_same_units("Product", found)
        first, *others = found
        nngp, ntk, own1, own2 = first.nngp, first.ntk, first.own1, first.own2
        for factor in others:
            ntk = ntk * factor.nngp + nngp * factor.ntk
            nngp = nngp * factor.nngp
            own1, own2 = own1 * factor.own1, own2 * factor.own2
        return first.with_moments(nngp, ntk, own1, own2, channels=units, gaussian=False)

    def join_arrays(self, outputs: list[Array]) -> Array:
        """The product.

        Args:
            outputs: One from each branch.

        Returns:
            Their product.
        """
        return functools.reduce(operator.mul, outputs)


def is_independent(layer: AbstractLayer) -> bool:
    """Whether a layer's output is independent of all else given what it reads.

    It is where random weights of its own are in the way, whatever follows on them.

    Args:
        layer: The layer.

    Returns:
        Whether all ways through the layer lead through random weights.
    """
    if isinstance(layer, Sequential):
        return any(is_independent(part) for part in layer.layers)
    if isinstance(layer, AbstractParallel):
        return all(is_independent(branch) for branch in layer.branches)
    return layer.is_random
