"""Power iteration on the blocks of a Jacobian."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from ntkflow.flows import Gradient, Linearized, Quadrature, Residual
from ntkflow.solvers._spectral_radius import estimate_radius, first_guess
from tests.simulate.problems import dense_kernel
from tests.solvers.problems import gradient_flow

RTOL = 1e-6


def radius(term, y):
    slope = term.vf(0.0, y, None)
    guess = first_guess(term, y, slope)
    return estimate_radius(term, 0.0, y, None, guess, rtol=RTOL, max_products=5000)


def test_radius_is_that_of_the_largest_block():
    gradient = Gradient()
    flows = (
        gradient,
        Residual("evolving"),
        Residual("frozen"),
        Linearized(),
        Quadrature(gradient),
    )
    term, y = gradient_flow(flows, time_scale=2.0)

    def own(name):
        def field(block):
            return term.vf(0.0, {**y, name: block}, None)[name]

        return jnp.abs(jnp.linalg.eigvals(jax.jacfwd(field)(y[name]))).max()

    found = radius(term, y)
    expected = max(float(own(name)) for name in y)
    assert bool(found.settled)
    # Two iterations that agree to rtol can both be short by some rtols over the gap.
    np.testing.assert_allclose(found.value, expected, rtol=1e-3)


def test_radius_of_the_linearized_flow_is_the_kernels_largest_eigenvalue():
    term, y = gradient_flow([Linearized()])
    expected = np.linalg.eigvalsh(dense_kernel(term.problem))[-1]
    np.testing.assert_allclose(radius(term, y).value, expected, rtol=1e-4)


def test_a_field_without_any_slope_has_radius_zero():
    term = dfx.ODETerm(lambda t, y, args: jnp.zeros_like(y))
    found = radius(term, jnp.ones(3))
    assert not float(found.value)
    assert bool(found.settled)
    assert np.isfinite(np.asarray(found.vectors["whole"])).all()
