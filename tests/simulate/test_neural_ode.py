"""Training in one time of a network that is an equation in another."""

import dataclasses

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import ntkflow as nf
from ntkflow import flows, models

pytestmark = pytest.mark.usefixtures("quickly_compiled")

T = 1.2
X = np.array([[0.5], [-0.8], [1.1]])
Y = np.array([[0.9], [-1.6], [1.8]])


class Exponential(eqx.Module):
    """v = θz: the network is f = x e^{θT}."""

    theta: jax.Array

    def __call__(self, t, z):
        return self.theta * z


def problem(theta=-0.4, **depth):
    field = Exponential(jnp.asarray(theta))
    return nf.Problem(models.NeuralODE(field, depth=models.Depth(T, **depth)), X, Y)


def exact(theta, ts):
    """θ̇ = −T e^{θT} Σ x(x e^{θT} − y), by a method of order eight in one dimension."""

    def rate(t, theta):
        u = np.exp(theta * T)
        return -T * u * np.sum(X * (X * u - Y))

    solution = scipy.integrate.solve_ivp(
        rate, (0, ts[-1]), [theta], "DOP853", ts, rtol=1e-12, atol=1e-13
    )
    return X[None] * np.exp(T * solution.y[0])[:, None, None]


@pytest.mark.slow
def test_training_is_that_of_the_closed_form():
    """Default adjoint, no setting: both modes are there, and the defect is small."""
    rtol, ts = 1e-5, np.array([0.02, 0.1, 0.6])
    posed = problem(solver=diffrax.Bosh3(), rtol=1e-6, atol=1e-6)
    run = nf.simulate(
        posed,
        ts,
        flows=[flows.Gradient(), flows.Residual("evolving")],
        measures=[nf.measures.KernelDrift()],
        rtol=rtol,
        progress=False,
        global_error=False,
    )
    f = run.dataset["f_train"].sel(flow="gradient").to_numpy()
    np.testing.assert_allclose(f, exact(-0.4, ts), rtol=0, atol=10 * rtol)
    defect = nf.residual_defect(posed, run, factor=1e3)
    assert np.all(defect.same <= 10 * rtol)
    assert np.all(defect.tight <= 10 * rtol)
    drift = run.dataset["kernel_drift"].to_numpy()
    squared = f[:, 1, 0] / X[1, 0]  # e^{θT}; the kernel is T²xx'e^{2θT}
    expected = np.abs(squared**2 / np.exp(-0.8 * T) - 1)
    np.testing.assert_allclose(drift, expected, rtol=1e-4)
    assert type(run.model.depth.adjoint) is diffrax.RecursiveCheckpointAdjoint


@pytest.mark.slow
def test_defect_sees_the_solve_in_depth():
    """The exact outputs at the trained θ are known: x e^{θT}."""
    posed = problem(solver=diffrax.Heun(), rtol=3e-2, atol=3e-2)
    run = nf.simulate(
        posed,
        [0.1],
        flows=[flows.Gradient(), flows.Residual("evolving")],
        measures=[],
        rtol=1e-5,
        progress=False,
        global_error=False,
    )
    defect = nf.residual_defect(posed, run, factor=1e3)
    f, r = run.dataset["f_train"].to_numpy()[:, -1]
    exact = X * np.exp(T * run.model.field.theta)
    size = np.sqrt(np.mean(f**2))
    assert defect.same[0] == pytest.approx(np.sqrt(np.mean((r - f) ** 2)) / size)
    expected = np.sqrt(np.mean((r - exact) ** 2)) / size
    assert expected > 1e-3
    assert defect.tight[0] == pytest.approx(expected, rel=0.05)
    with pytest.raises(ValueError, match="factor must be above 1"):
        nf.residual_defect(posed, run, factor=1)
    alone = dataclasses.replace(run, dataset=run.dataset.sel(flow=["gradient"]))
    with pytest.raises(ValueError, match=r"Residual\(\"evolving\"\), got one of"):
        nf.residual_defect(posed, alone)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"adjoint": diffrax.ForwardMode()}, "forward only"),
        ({"adjoint": diffrax.BacksolveAdjoint()}, "in reverse only"),
        (
            {
                "adjoint": diffrax.RecursiveCheckpointAdjoint(checkpoints=8),
                "max_steps": None,
            },
            "in reverse only",
        ),
    ],
)
def test_adjoints_of_one_mode_are_refused(settings, found):
    with pytest.raises(ValueError, match=rf"{found}.*diffrax\.DirectAdjoint\(\)"):
        nf.simulate(problem(**settings), [1.0], flows=[flows.Gradient()])
