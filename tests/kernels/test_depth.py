"""Kernels of modules from elsewhere that call `diffeqsolve` themselves."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf

from . import quick

T, THETA = 1.5, 0.8
X = np.array([[0.5], [-1.2], [2.0]])


class Foreign(eqx.Module):
    """ż = θz, solved as one would who has never heard of this library."""

    theta: jax.Array
    adjoint: diffrax.AbstractAdjoint
    controller: diffrax.AbstractStepSizeController = diffrax.PIDController(
        rtol=1e-5, atol=1e-5
    )
    closes_over: bool = False

    def __call__(self, x):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(
                (lambda t, z, _: self.theta * z)
                if self.closes_over
                else (lambda t, z, theta: theta * z)
            ),
            diffrax.Heun(),
            0.0,
            T,
            None,
            x,
            args=None if self.closes_over else self.theta,
            stepsize_controller=self.controller,
            adjoint=self.adjoint,
            max_steps=256,
        ).ys[-1]


def kernel(adjoint, **options):
    model = Foreign(jnp.asarray(THETA), adjoint, **options)
    return quick.ntk(model, jnp.asarray(X))


TRUTH = T**2 * (X @ X.T) * np.exp(2 * THETA * T)


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def test_reverse_is_forward_on_the_same_steps():
    """At a tolerance at which the kernels of other steps would differ by far more.

    As many checkpoints as steps: none is replayed, and so rounded otherwise.
    """
    reverse = kernel(diffrax.RecursiveCheckpointAdjoint(checkpoints=256))
    assert 1e-7 <= distance(reverse, TRUTH) <= 1e-2
    assert distance(kernel(diffrax.ForwardMode()), reverse) <= 1e-12


@pytest.mark.slow
def test_direct_adjoint_is_reverse_on_the_same_steps():
    reverse = kernel(diffrax.RecursiveCheckpointAdjoint(checkpoints=256))
    assert distance(kernel(diffrax.DirectAdjoint()), reverse) <= 1e-12


def test_closed_over_parameters_with_a_backsolve_adjoint_are_refused():
    model = Foreign(jnp.asarray(THETA), diffrax.BacksolveAdjoint(), closes_over=True)
    with pytest.raises(ValueError, match=r"closes over.*args"):
        nf.ntk(model, jnp.asarray(X))
