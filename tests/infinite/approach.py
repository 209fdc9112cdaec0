"""How finite networks approach the limit of infinite width."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tests.tolerances import standard_errors

WIDTHS = np.array([16, 32, 64, 128, 256])
SEEDS = 100


def tangent_kernel(model, x):
    """⟨∂f/∂θ, ∂f'/∂θ⟩ of one output, by reverse differentiation."""
    params, static = eqx.partition(model, eqx.is_inexact_array)
    slopes = jax.vmap(
        jax.grad(lambda params, xi: eqx.combine(params, static)(xi)[0]), (None, 0)
    )(params, x)
    flat = [leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(slopes)]
    return sum((leaf @ leaf.T for leaf in flat), jnp.zeros((len(x), len(x))))


def check_approach(drawn, limit):
    """The slope in width is −½, and the widest is right within five errors.

    Errors are means of magnitudes, whose tails are lighter than those of squares. The
    slope's own error is carried over from theirs, at most too large where widths share
    draws; the next order in 1/width, a few times 1/16 at the narrowest, is given 0.1.
    At the widest the mean is off by a few times 1/256, less than its errors are.

    Args:
        drawn: A kernel of finite networks, [width, seed, N, N].
        limit: That of infinite width.
    """
    limit = np.asarray(limit)
    errors = np.abs(drawn - limit[None, None]).mean((2, 3))
    spread = errors.std(1, ddof=1) / SEEDS**0.5 / errors.mean(1)
    weights = np.log(WIDTHS) - np.log(WIDTHS).mean()
    weights /= weights @ weights
    slope = weights @ np.log(errors.mean(1))
    room = 5 * np.linalg.norm(weights * spread) + 0.1
    assert abs(slope + 0.5) <= room < 0.4
    gap = np.abs(drawn[-1].mean(0) - limit)
    allowed = standard_errors(drawn[-1].std(0, ddof=1), SEEDS)
    assert (gap <= allowed).all()
    # The test could tell: what it allows is small.
    assert (allowed < 0.2 * np.abs(limit).max()).all()
