"""Models that are differentiable in one mode: what they can be trained by, and why not.

The models have twins with both modes, which give the same numbers.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import measures, solvers
from ntkflow.flows import Descent, Gradient, Linearized, Modified, Momentum, Residual
from ntkflow.problem import Problem
from ntkflow.simulate import simulate
from tests.tolerances import roundoff

pytestmark = [
    pytest.mark.usefixtures("cheaply_compiled"),
    pytest.mark.usefixtures("quickly_compiled"),
]


ITERATIONS = 150
"""The slope of the iterated map stays below 0.8, whose power this is rounding."""


def fixed_point(w, x):
    """z = tanh(wz + x), by iterations that reverse mode need not see."""

    def body(carry):
        i, z = carry
        return i + 1, jnp.tanh(w * z + x)

    return jax.lax.while_loop(lambda c: c[0] < ITERATIONS, body, (0, x))[1]


@jax.custom_vjp
def implicit(w, x):
    return fixed_point(w, x)


def implicit_backward(kept, g):
    w, z = kept
    slope = 1 - z**2
    v = g * slope / (1 - w * slope)
    return jnp.sum(v * z), v


implicit.defvjp(lambda w, x: (z := fixed_point(w, x), (w, z)), implicit_backward)


def unrolled(w, x):
    def body(z, _):
        return jnp.tanh(w * z + x), None

    return jax.lax.scan(body, x, None, ITERATIONS)[0]


class Equilibrium(eqx.Module):
    """A deep equilibrium layer and a readout."""

    inner: jax.Array
    readout: jax.Array
    layer: object = eqx.field(static=True)

    def __call__(self, x):
        return self.readout @ self.layer(self.inner, x)


def posed(layer, n_outputs=1):
    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    readout = jnp.array([[1.0, -0.5, 0.3], [0.2, 0.7, -0.4]])[:n_outputs]
    model = Equilibrium(jnp.asarray(0.4), readout, layer)
    return Problem(model, x, jnp.sin(3 * x[:, :n_outputs]))


PID = dfx.PIDController(rtol=1e-7, atol=1e-9)
QUIET = {"progress": False}


@pytest.mark.parametrize(
    ("flow", "options"),
    [
        (Descent(0.05), {}),
        (Gradient(), {"controller": PID}),
        pytest.param(Momentum(2.0), {"controller": PID}, marks=pytest.mark.slow),
    ],
    ids=["descent", "gradient", "momentum"],
)
def test_a_custom_reverse_rule_trains_as_its_twin(flow, options):
    """Default measures are read, but for the one that takes a forward derivative."""
    runs = [
        simulate(posed(layer), [0.5, 2.0], flows=[flow], **options, **QUIET)
        for layer in (implicit, unrolled)
    ]
    one, other = (run.dataset for run in runs)
    # The fixed point is found to rounding, wherever in a step that shows.
    tolerance = roundoff(1e4)
    np.testing.assert_allclose(one.f_train, other.f_train, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.kernel_drift, other.kernel_drift, atol=tolerance)
    assert set(other) - set(one) == {"kernel_velocity"}


def test_of_two_outputs_no_default_takes_a_forward_derivative():
    """Neither the full kernel's velocity nor the trace kernel's."""
    problem = posed(implicit, n_outputs=2)
    found = simulate(problem, [0.5], flows=[Descent(0.1)], **QUIET).dataset
    assert {"kernel_drift", "kernel_drift_trace"} <= set(found)
    assert not {name for name in found if "velocity" in str(name)}


def test_a_dynamic_loop_has_a_frozen_flow():
    """Of the kernel alone, which forward mode gives."""
    flows = [Residual("frozen")]
    one, other = (
        simulate(posed(layer), [0.5, 2.0], flows=flows, rtol=1e-8, **QUIET).dataset
        for layer in (fixed_point, unrolled)
    )
    np.testing.assert_allclose(one.f_train, other.f_train, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "flows", "options", "named"),
    [
        (implicit, [Gradient()], {}, ["implicit at .*test_one_mode.py", "controller"]),
        (implicit, [Residual("evolving")], {"controller": PID}, ["residual_evolving"]),
        (implicit, [Gradient(), Linearized()], {"controller": PID}, ["linearized"]),
        (implicit, [Modified(Descent(0.1))], {"controller": PID}, ["flow modified"]),
        (
            implicit,
            [Gradient()],
            {"controller": PID, "solver": solvers.Chebyshev()},
            ["solver Chebyshev"],
        ),
        (
            implicit,
            [Descent(0.1)],
            {"measures": [measures.KernelVelocity()]},
            ["measure KernelVelocity"],
        ),
        (
            implicit,
            [Descent(0.1)],
            {"measures": [measures.KernelVelocity("trace"), measures.Sharpness()]},
            ["measure KernelVelocity; by the measure Sharpness"],
        ),
        (fixed_point, [Descent(0.1)], {}, ["jax.lax.while_loop", "descent", "scan"]),
        (fixed_point, [Linearized()], {}, ["forward only", "linearized"]),
    ],
)
def test_the_cause_is_named(layer, flows, options, named):
    with pytest.raises(ValueError, match=".*".join(named)) as caught:
        simulate(posed(layer), [1.0], flows=flows, **options, **QUIET)
    assert "differential equation" not in str(caught.value)
