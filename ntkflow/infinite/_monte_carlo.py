"""Kernels of finite networks, averaged over their initial weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from ntkflow._precision import at_full_precision
from ntkflow.kernels._inputs import check_pair
from ntkflow.kernels._ntk import ntk


class Averages(NamedTuple):
    """Means over initial weights, per output, and the standard errors of the means.

    Attributes:
        nngp: Mean of f(x) f(x').
        ntk: Mean of ⟨∂f(x)/∂θ, ∂f(x')/∂θ⟩.
        nngp_error: Standard error of `nngp`.
        ntk_error: Standard error of `ntk`.
    """

    nngp: Float[Array, "N1 N2"]
    ntk: Float[Array, "N1 N2"]
    nngp_error: Float[Array, "N1 N2"]
    ntk_error: Float[Array, "N1 N2"]


Pair = tuple[Float[Array, "N1 N2"], Float[Array, "N1 N2"]]


def monte_carlo(
    make: Callable[[PRNGKeyArray], Any],
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    seeds: int,
    key: PRNGKeyArray,
) -> Averages:
    """Both kernels of a finite network, averaged over seeds one after the other.

    The memory needed does not depend on the number of seeds. A network of finite width
    differs from the limit by O(1/width) in the mean, which no number of seeds removes.

    Args:
        make: A function from a key to an equinox module, called on one example; it is
            compiled, so that the key is not to be looked at.
        x1: Examples along the rows.
        x2: Examples along the columns; by default those along the rows.
        seeds: How many networks are drawn, at least 2.
        key: Random key.

    Returns:
        Means and standard errors.

    Raises:
        ValueError: There are too few seeds, the inputs do not go together, or `make`
            returns no model of outputs of shape [K].

    Source: Novak et al. (2019), on Monte Carlo estimates; Welford (1962) for means and
        variances in one pass.

    Verified by:
    tests/infinite/test_monte_carlo.py::test_one_pass_gives_mean_and_standard_error,
    tests/infinite/test_branches.py::test_joins_match_finite_networks
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 2:
        raise ValueError(
            "monte_carlo: a standard error takes `seeds` of at least 2, a whole "
            f"number, got {seeds!r}."
        )
    first, second = check_pair(x1, x2)
    mean, squares = _welford(make, first, second, jnp.asarray(seeds), key)
    errors = [jnp.sqrt(square / (seeds * (seeds - 1))) for square in squares]
    return Averages(*mean, *errors)


@eqx.filter_jit
@at_full_precision
def _welford(
    make: Callable[[PRNGKeyArray], Any],
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    seeds: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Pair, Pair]:
    """Means, and sums of squared deviations from them."""

    def one(its_key: PRNGKeyArray) -> Pair:
        model = make(its_key)
        f1 = jax.vmap(model)(x1)
        f2 = f1 if x2 is None else jax.vmap(model)(x2)
        if f1.ndim != 2:
            raise ValueError(
                "monte_carlo: make(key) must return a model with outputs of shape [K] "
                f"for one example, got outputs of shape {f1.shape[1:]}."
            )
        outputs = f1.shape[1]
        tangent = ntk(model, x1, x2)
        assert not isinstance(tangent, dict)
        nngp = jnp.einsum("nk,mk->nm", f1, f2, precision="highest")
        return nngp / outputs, tangent / outputs

    def step(i: Int[Array, ""], carry: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
        means, sums = [], []
        found = one(jax.random.fold_in(key, i))
        for value, mean, squares in zip(found, *carry, strict=True):
            off = value - mean
            means.append(mean + off / i.astype(off.dtype))
            sums.append(squares + off * (value - means[-1]))
        return (means[0], means[1]), (sums[0], sums[1])

    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, key)
    )
    return jax.lax.fori_loop(1, seeds + 1, step, (zeros, zeros))
