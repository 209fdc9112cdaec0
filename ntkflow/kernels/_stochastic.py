"""What a kernel beyond any dense one shows to random vectors: trace, rank, density.

Every estimate needs a few products of the kernel with vectors, and comes with its
standard error.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from matfree import decomp, stochtrace

from ntkflow._precision import full_precision
from ntkflow.kernels._action import Action, Kernel, action_of


class Estimate(NamedTuple):
    """A number known up to a random error.

    Attributes:
        value: The estimate.
        error: Its standard error.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]


class SpectralDensity(NamedTuple):
    """The eigenvalues of a kernel as a random sample of weighted points.

    Every sample is a Gauss quadrature: its mean of λ^p is that of the spectrum seen by
    one random vector, exactly for p < 2·n_steps.

    Attributes:
        nodes: Points on the axis of eigenvalues, in the kernel's unit.
        weights: Their weights, which sum to one in each sample.
        size: How many eigenvalues there are.
    """

    nodes: Float[Array, "n_samples n_steps"]
    weights: Float[Array, "n_samples n_steps"]
    size: int

    def mean(
        self, function: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    ) -> Estimate:
        """The mean of a function over all eigenvalues: tr φ(K) / n.

        Args:
            function: φ, elementwise.

        Returns:
            Its mean.
        """
        each = jnp.sum(self.weights * function(self.nodes), axis=1)
        return _estimate(each)

    def above(self, threshold: Float[Array, ""] | float) -> Estimate:
        """How many eigenvalues exceed a threshold.

        Args:
            threshold: The threshold, in the kernel's unit.

        Returns:
            Their number.
        """
        share = self.mean(lambda nodes: jnp.where(nodes > threshold, 1.0, 0.0))
        return Estimate(self.size * share.value, self.size * share.error)

    def __call__(
        self, grid: Float[Array, " m"], width: Float[Array, ""] | float
    ) -> Float[Array, " m"]:
        """The density, every point widened to a Gaussian.

        Args:
            grid: Where on the axis of eigenvalues.
            width: Standard deviation of the Gaussians, in the same unit.

        Returns:
            The density, which integrates to one.
        """

        def at(point: Float[Array, ""]) -> Float[Array, ""]:
            bumps = jnp.exp(-0.5 * ((point - self.nodes) / width) ** 2)
            return jnp.mean(jnp.sum(bumps * self.weights, axis=1))

        return jax.vmap(at)(grid) / (width * math.sqrt(2 * math.pi))


def estimate_trace(
    kernel: Kernel, *, n_samples: int = 32, key: PRNGKeyArray
) -> Estimate:
    """The trace of a positive semidefinite kernel from a few products with it.

    The part that the products capture counts exactly, the rest by chance, so that the
    error falls with the eigenvalues beyond the largest `n_samples`. (The diagonal is
    known exactly too, by `lineax.diagonal`, at the cost of K reverse passes an
    example.)

    Args:
        kernel: A full kernel, a matrix or a positive semidefinite lineax operator.
        n_samples: Random vectors, each of which is multiplied once.
        key: Key of the vectors.

    Returns:
        The trace; the error is that of the estimates that leave one vector out. With as
        many vectors as rows it is exact.

    Raises:
        ValueError: There are more vectors than rows, or fewer than two.

    Source: Epperly, Tropp & Webber (2024), algorithm XNysTrace.

    Verified by: tests/kernels/test_stochastic.py::test_trace_is_within_its_error
    """  # ruff: ignore[docstring-extraneous-exception]
    action = action_of(kernel)
    vectors = _vectors(action, n_samples, key)
    with full_precision():
        if n_samples == action.size:
            return _exactly(jnp.trace(_formed(action)))
        traces = _traces(action, vectors)
        return _estimate(_nothing_of_nothing(action, vectors, traces))


def estimate_effective_rank(
    kernel: Kernel, *, n_samples: int = 32, key: PRNGKeyArray
) -> Estimate:
    """The participation ratio (tr K)²/‖K‖_F² of a positive semidefinite kernel.

    Args:
        kernel: A full kernel, a matrix or a positive semidefinite lineax operator.
        n_samples: Random vectors, each of which is multiplied three times.
        key: Key of the vectors.

    Returns:
        The effective rank; the error is that of the estimates that leave one vector
        out. It is exact where the kernel has no more than 2·n_samples rows, and zero
        for a kernel of zeros.

    Raises:
        ValueError: There are more vectors than rows, or fewer than two.

    Source: Bell & Dean (1970), the ratio; Epperly, Tropp & Webber (2024) and Epperly
        (2025), XNysTrace and XSymRowNorm, the estimators of its two parts.

    Verified by:
        tests/kernels/test_stochastic.py::test_effective_rank_is_within_its_error,
        tests/kernels/test_stochastic.py::test_small_kernels_are_read_exactly
    """  # ruff: ignore[docstring-extraneous-exception]
    action = action_of(kernel)
    vectors = _vectors(action, n_samples, key)
    row_norms = stochtrace.leave_one_out_xsymrownorms_squared()
    with full_precision(), jax.numpy_rank_promotion("allow"):
        if 2 * n_samples >= action.size:  # no more products than the estimate takes
            matrix = _formed(action)
            square = jnp.sum(matrix**2)
            some = jnp.where(square == 0, jnp.ones_like(square), square)
            return _exactly(jnp.trace(matrix) ** 2 / some)
        rows = cast(Array, row_norms(action.one_by_one, vectors))
        squares = jnp.sum(rows, axis=1)
        ranks = _traces(action, vectors) ** 2 / squares
        return _estimate(_nothing_of_nothing(action, vectors, ranks))


def spectral_density(
    kernel: Kernel,
    *,
    n_samples: int = 16,
    n_steps: int = 64,
    key: PRNGKeyArray,
) -> SpectralDensity:
    """How the eigenvalues of a symmetric kernel are distributed.

    From each random vector a Lanczos process, whose small matrix gives a Gauss
    quadrature of the spectrum as the vector sees it. Eigenvalues at the ends, the large
    ones of a tangent kernel, are found sharply.

    Args:
        kernel: A full kernel, a matrix or a symmetric lineax operator.
        n_samples: Random vectors.
        n_steps: Products with each of them.
        key: Key of the vectors.

    Returns:
        The distribution.

    Raises:
        ValueError: There are fewer than two vectors or no steps.

    Source: Ubaru, Chen & Saad (2017), section 3 (stochastic Lanczos quadrature).

    Verified by:
        tests/kernels/test_stochastic.py::test_quadrature_has_the_moments_of_its_vector
    """
    action = action_of(kernel)
    if n_samples < 2 or n_steps < 1:
        raise ValueError(
            "A density needs n_samples of at least 2 and n_steps of at least 1, got "
            f"{n_samples} and {n_steps}."
        )
    steps = min(n_steps, action.size)
    # Lost orthogonality repeats eigenvalues and divides their weight among the copies.
    decompose = decomp.tridiag_sym(
        steps, reortho="none", custom_vjp=False, materialize=False
    )
    roundoff = action.size * float(jnp.finfo(action.dtype).eps)

    def quadrature(v: Float[Array, " n"]) -> tuple[Array, Array]:
        diagonal, beside = cast(tuple[Array, Array], decompose(action.apply, v).J_small)
        # Where the Krylov space closes early, what follows is round-off over round-off,
        # or zero over zero.
        open_so_far = jnp.cumprod(beside > roundoff * jnp.nanmax(jnp.abs(diagonal)))
        inside = jnp.concatenate([jnp.ones_like(open_so_far, shape=1), open_so_far])
        nothing = jnp.zeros((), action.dtype)
        diagonal = jnp.where(inside == 1, diagonal, nothing)
        beside = jnp.where(open_so_far == 1, beside, nothing)
        small = jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
        nodes, vectors = jnp.linalg.eigh(small)
        return nodes, vectors[0] ** 2

    with full_precision():
        signs = jax.random.rademacher(key, (n_samples, action.size), action.dtype)
        nodes, weights = jax.lax.map(quadrature, signs)
    return SpectralDensity(nodes, weights, action.size)


def _vectors(
    action: Action, n_samples: int, key: PRNGKeyArray
) -> Float[Array, "n_samples n"]:
    if not 2 <= n_samples <= action.size:
        raise ValueError(
            f"n_samples must be between 2 and the kernel's size {action.size}, got "
            f"{n_samples}."
        )
    like = jnp.zeros(action.size, action.dtype)
    return stochtrace.sampler_sphere(like, num=n_samples)(key)


def _formed(action: Action) -> Float[Array, "n n"]:
    return jax.lax.map(action.apply, jnp.eye(action.size, dtype=action.dtype))


def _exactly(value: Float[Array, ""]) -> Estimate:
    return Estimate(value, jnp.zeros_like(value))


def _nothing_of_nothing(
    action: Action,
    vectors: Float[Array, "n_samples n"],
    each: Float[Array, " n_samples"],
) -> Float[Array, " n_samples"]:
    """Zero for a kernel of zeros, for which the estimates divide zero by zero."""
    image = action.apply(vectors[0])
    return jnp.where(jnp.all(image == 0), jnp.zeros_like(each), each)


def _traces(
    action: Action, vectors: Float[Array, "n_samples n"]
) -> Float[Array, " n_samples"]:
    with jax.numpy_rank_promotion("allow"):
        return stochtrace.leave_one_out_xnystrace()(action.one_by_one, vectors)


def _estimate(each: Float[Array, " n_samples"]) -> Estimate:
    mean = jnp.mean(each)
    variance = jnp.sum((each - mean) ** 2) / (each.size - 1)
    return Estimate(mean, jnp.sqrt(variance / each.size))
