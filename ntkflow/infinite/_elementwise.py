"""Any activation, by quadrature, and those of common use that have no closed form."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Final, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation
from ntkflow.infinite._hermite import CHECK, LEVELS, TERMS, find_functions, find_rule
from ntkflow.infinite._mehler import Function, derivatives, gaussian_moments

FLOOR: Final = 64
"""The least tolerance that is tried for, in units of the dtype's rounding error."""

SMOOTH: Final = 1e-9
"""Error at unit variance below which a function counts as smooth."""


@final
class Elementwise(AbstractActivation):
    """Any function of one variable; its kernels by Mehler's expansion.

    The number of terms follows from the tolerance, up to 768 with 1024 nodes. How many
    it takes depends on how far from the real line f is analytic, against √q: tanh
    reaches 1e-9 up to variances of about 8, SiLU, softplus and the logistic sigmoid up
    to about 30. Where f has a kink, κ is within about 1e-4 and κ̇ within 1e-2; where f'
    has one, as that of ELU, within 1e-6 and 1e-3. `error` tells, and a layer whose
    tolerance is not reached at unit variance warns when it is made. Derivatives of κ
    and κ̇ by the variances use those of f up to the third, in which a kink is not seen:
    take `Relu`, `LeakyRelu`, `Abs`, `Sign`, `Step` or `RectifiedMonomial`, which are
    exact.

    Args:
        function: f; acts elementwise on arrays, keeps their dtype, and is
            differentiable by JAX. It is a static part of the layer: pass the same
            object again for not to compile again, and no arrays to be differentiated
            through.
        tolerance: Error of κ and κ̇ relative to that of equal units; not below 64
            roundings of the dtype.

    Raises:
        ValueError: The function does not act elementwise, or the tolerance is not
            positive.

    Source: Mehler (1866); Price (1958) for κ̇ as the dual of f'; Han, Zandieh, Lee,
        Novak, Xiao & Karbasi (2022), for the same aim by other means.

    Verified by: tests/infinite/test_elementwise.py::test_dual_matches_quadrature
    """

    f: Function = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    smooth: bool = eqx.field(static=True)

    def __init__(self, function: Callable[[Array], Array], tolerance: float = 1e-10):
        _check_function(function)
        if not (isinstance(tolerance, int | float) and tolerance > 0):
            raise ValueError(
                "Elementwise: `tolerance` must be a positive number, got "
                f"{tolerance!r}."
            )
        self.f = function
        self.tolerance = float(tolerance)
        error = float(self.error(1.0))
        self.smooth = error <= max(SMOOTH, _floor(jnp.zeros(()).dtype))
        # A nan is an overflow, and no less of a warning.
        if not error <= self._allowed(jnp.zeros(()).dtype):
            self._warn(error)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            f(x).
        """
        return self.f(x)

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)].

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        both = ((0, 0), (1, 1))
        found = gaussian_moments(self.f, both, self._goal(c.dtype), c, q1, q2)
        return found[0], found[1]

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²], from the same terms as `dual`.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        goal = self._goal(q.dtype)
        return gaussian_moments(self.f, ((0, 0),), goal, q, q, q)[0]

    def error(self, q: float | Float[Array | np.ndarray, "..."]) -> np.ndarray:
        """How well the most terms and nodes do, not looking at the tolerance.

        Args:
            q: Variances; not under `jit`.

        Returns:
            An estimate of the relative error of κ and κ̇ of two equal units, the
            greater of the two: what Parseval's sum leaves of f and f', and how far the
            coefficients are from those by other nodes.
        """
        with jax.ensure_compile_time_eval():
            q = np.asarray(q, float)
            return _estimate(self.f, q.ravel()).reshape(q.shape)

    def _allowed(self, dtype: np.dtype) -> float:
        return max(self.tolerance, _floor(dtype))

    def _goal(self, dtype: np.dtype) -> float:
        # Where coefficients fall slowly the quadrature is off by more than the terms
        # that are left tell, so that one must not stop early.
        return self._allowed(dtype) if self.smooth else 0.0

    def _warn(self, error: float) -> None:
        name = getattr(self.f, "__name__", repr(self.f))
        warnings.warn(
            f"Elementwise({name}): at unit variance the kernel of equal units has "
            f"a relative error of about {error:.1e}, not {self.tolerance:.1e}. A "
            "kinked function has a layer of its own (Relu, LeakyRelu, Abs, Sign, "
            "RectifiedMonomial); to accept the error pass a `tolerance` above it.",
            stacklevel=4,
        )


def quadrature_error(
    activation: AbstractActivation, q: float | Float[Array | np.ndarray, "..."]
) -> np.ndarray:
    """The error of an activation's kernels that is not rounding.

    Args:
        activation: Any; closed forms have none.
        q: Variances; not under `jit`.

    Returns:
        `Elementwise.error`, or zeros.

    Verified by: tests/infinite/test_elementwise.py::test_error_is_estimated
    """
    if isinstance(activation, Elementwise):
        return activation.error(q)
    return np.zeros(np.shape(q))


def Tanh() -> Elementwise:  # ruff: ignore[invalid-function-name]
    """The hyperbolic tangent.

    Returns:
        The layer.
    """
    return Elementwise(jnp.tanh)


def Silu() -> Elementwise:  # ruff: ignore[invalid-function-name]
    """The sigmoid linear unit or swish, x/(1 + exp(−x)).

    Returns:
        The layer.
    """
    return Elementwise(jax.nn.silu)


def Softplus() -> Elementwise:  # ruff: ignore[invalid-function-name]
    """The smooth ramp log(1 + exp x).

    Returns:
        The layer.
    """
    return Elementwise(jax.nn.softplus)


def Sigmoid() -> Elementwise:  # ruff: ignore[invalid-function-name]
    """The logistic sigmoid 1/(1 + exp(−x)).

    Returns:
        The layer.
    """
    return Elementwise(jax.nn.sigmoid)


def Elu(alpha: float = 1.0) -> Elementwise:  # ruff: ignore[invalid-function-name]
    """The exponential linear unit: x above zero, α(exp x − 1) below.

    For α = 1 the first derivative has a kink, for others the function has; see
    `Elementwise` for what that leaves of its accuracy.

    Args:
        alpha: The α.

    Returns:
        The layer.
    """
    return Elementwise(_Elu(float(alpha)), tolerance=1e-3 if alpha == 1 else 0.1)


@dataclasses.dataclass(frozen=True)
class _Elu:
    """Equal for equal α, so that nothing is compiled again."""

    alpha: float

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.elu(x, self.alpha)


def _floor(dtype: np.dtype) -> float:
    return FLOOR * float(jnp.finfo(dtype).eps)


def _check_function(function: Callable[[Array], Array]) -> None:
    if not callable(function):
        raise ValueError(
            "Elementwise needs a function of arrays such as jnp.tanh, got "
            f"{function!r}."
        )
    try:
        hash(function)
    except TypeError:
        raise ValueError(
            "Elementwise needs a hashable function, as it is a static part of the "
            f"layer, got {function!r}: wrap it as `lambda x: f(x)`, with its arrays "
            "made Python numbers."
        ) from None
    dtype = jnp.zeros(()).dtype
    out = jax.eval_shape(function, jax.ShapeDtypeStruct((2, 3), dtype))
    if getattr(out, "shape", None) != (2, 3) or out.dtype != dtype:
        raise ValueError(
            "Elementwise needs a function that acts on every entry and keeps the "
            f"dtype: of {dtype}[2,3] it made {out}. Softmax and norms are no "
            "activations."
        )


def _estimate(function: Function, q: np.ndarray) -> np.ndarray:
    exact, energy = _all_coefficients(function, LEVELS[-1], TERMS[-1], q)
    other, _ = _all_coefficients(function, CHECK, TERMS[-1], q)
    left = np.maximum(energy - np.sum(exact**2, axis=0), 0)
    # Σ(a² − b²) to first order; an error that falls as 1/nodes is three times the
    # difference of the rules.
    wrong = 6 * np.sum(np.abs(exact * (exact - other)), axis=0)
    relative = (left + wrong) / np.where(energy > 0, energy, 1)
    return np.max(np.where(energy > 0, relative, 0), axis=0)


def _all_coefficients(
    function: Function, count: int, terms: int, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [terms, 2, n] of f and f', and their mean squares [2, n]."""
    rule, psi = find_rule(count), find_functions(count, terms)
    x = np.sqrt(q)[:, None] * rule.nodes
    plus, minus = (
        np.asarray(derivatives(function, 1, jnp.asarray(s))) for s in (x, -x)
    )
    even, odd = ((plus + sign * minus) * rule.roots for sign in (1, -1))
    found = np.empty((terms, *even.shape[:2]))
    found[0::2] = np.tensordot(psi[0::2], even, (1, 2))
    found[1::2] = np.tensordot(psi[1::2], odd, (1, 2))
    return found, np.sum((plus**2 + minus**2) * rule.roots**2, axis=2)
