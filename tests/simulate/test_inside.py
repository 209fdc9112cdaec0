"""Save times between the steps of explicit methods."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf


class Square(eqx.Module):
    """f = w²x: one parameter, whose kernel moves."""

    w: jax.Array

    def __call__(self, x):
        return self.w**2 * x


def exact_outputs(ts):
    """u̇ = 4u(1 − u) of u = w², for the loss (w² − 1)²/2, is logistic."""
    return 1 / (1 + (1 / 0.3**2 - 1) * np.exp(-4 * ts))


METHODS = {
    "named": (dfx.Dopri5(), 1e-7),
    "in auto": (nf.solvers.Explicit(dfx.Dopri5()), 1e-7),
    "of order eight": (dfx.Dopri8(), 1e-10),
}


@pytest.mark.parametrize("case", METHODS)
def test_save_times_inside_steps_hold_the_tolerance(case):
    method, rtol = METHODS[case]
    one = jnp.ones((1, 1))
    problem = nf.Problem(Square(jnp.asarray([0.3])), one, one)
    ts = np.append(0.0, np.sort(np.random.default_rng(0).uniform(0, 4, 200)))
    run = nf.simulate(
        problem,
        ts,
        flows=[nf.flows.Gradient()],
        measures=(),
        solver=method,
        rtol=rtol,
        atol=1e-3 * rtol,
        progress=False,
    )
    found = np.asarray(run.dataset.f_train).ravel()
    # Three are promised; the logistic flow forgets what a step has got wrong.
    assert np.abs(found - exact_outputs(ts)).max() < 3 * rtol
