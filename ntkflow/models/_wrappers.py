"""Wrappers that change a model's output, and with it how lazily it trains."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from .._tracing import is_traced
from .._types import Number, Scalar
from ._checks import check_positive
from ._frozen import Frozen
from ._time_scale import time_scale


class Scaled(eqx.Module):
    """The model F = α(f − f₀), with f₀ the model as it was when wrapped.

    Large α makes training lazy, small α rich: with c = 1/α² the kernel c J_F J_Fᵀ that
    drives F does not depend on α at the start, while the parameters move by O(1/α).
    The copy behind f₀ is `Frozen`: it is never trained and never part of a kernel.

    α is an array, so that models which differ in it share one compiled program, and
    `equinox.filter_vmap` over values of α makes an ensemble.

    Args:
        model: Any model callable on one example.
        alpha: The output scale α; positive.
        centered: Whether f₀ is subtracted; without it F = αf, at one forward pass
            instead of two.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Source: Chizat, Oyallon and Bach (2019), section 1.
    Verified by: tests/models/test_wrappers.py::test_centered_model_starts_at_zero,
        tests/models/test_wrappers.py::test_scaled_kernel_is_alpha_squared_times_the_kernel
    """

    model: Callable
    initial: Frozen | None
    scale: Frozen

    def __init__(self, model: Callable, alpha: Number, centered: bool = True):
        # The members of an ensemble are checked where they are put together.
        if not is_traced(alpha):
            alpha = check_positive("Scaled", "alpha", float(alpha))
        self.model = model
        self.initial = Frozen(_copy_arrays(model)) if centered else None
        self.scale = Frozen(jnp.asarray(alpha, jnp.result_type(float)))

    @property
    def alpha(self) -> Scalar:
        """The output scale α."""
        return self.scale.tree

    @property
    def time_scale(self) -> Scalar:
        """The inner model's time scale divided by α²."""
        return time_scale(self.model) / self.alpha**2

    def __call__(self, x: Any) -> Inexact[Array, "..."]:
        """Evaluate F on one example.

        Args:
            x: One example, whatever the inner model takes.

        Returns:
            α(f(x) − f₀(x)).
        """
        f = self.model(x)
        if self.initial is not None:
            f = f - self.initial(x)
        return self.alpha.astype(f.dtype) * f


class Antisymmetric(eqx.Module):
    """The model (f_a − f_b)/√2, whose two halves start equal and are both trained.

    It starts at f = 0 with the kernel of the model it wraps, and that kernel's first
    derivative along the flow vanishes at the start, so finite-width effects are smaller
    by one order.

    Args:
        model: Any model callable on one example; `b` becomes a copy of it, with arrays
            of its own.

    Source: Zhang, Xu, Luo and Ma (2020), section on antisymmetrical initialization.
    Verified by: tests/models/test_wrappers.py::test_antisymmetric_model_starts_at_zero,
        tests/models/test_wrappers.py::test_antisymmetric_model_keeps_the_kernel
    """

    a: Callable
    b: Callable

    def __init__(self, model: Callable):
        self.a = model
        self.b = _copy_arrays(model)

    @property
    def time_scale(self) -> float | Scalar:
        """The time scale of the model that was wrapped."""
        return time_scale(self.a)

    def __call__(self, x: Any) -> Inexact[Array, "..."]:
        """Evaluate the difference of the halves on one example.

        Args:
            x: One example, whatever the inner model takes.

        Returns:
            (f_a(x) − f_b(x))/√2.
        """
        return (self.a(x) - self.b(x)) / math.sqrt(2.0)


def _copy_arrays(model: PyTree) -> Any:
    # One array in two leaves would look tied, and could not be donated under jit.
    return jax.tree.map(
        lambda leaf: jnp.array(leaf) if eqx.is_inexact_array(leaf) else leaf, model
    )
