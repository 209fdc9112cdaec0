"""Errors measured on the outputs."""

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import max_over_flows
from ntkflow.solvers import FunctionSpace
from tests.solvers.quick import quick_jit

T1 = 1.0


@quick_jit
def final(controller, gain):
    """Two decoupled decays, of which the second hardly shows in the outputs."""

    def field(t, y, args):
        return jnp.stack([-y[0], jnp.cos(40 * t) * 40])

    solution = dfx.diffeqsolve(
        dfx.ODETerm(field),
        dfx.Bosh3(),
        0.0,
        T1,
        None,
        jnp.ones(2),
        stepsize_controller=controller,
        adjoint=dfx.ForwardMode(),
        max_steps=None,
    )
    return solution.ys[-1], solution.stats["num_steps"]


def exact():
    return np.array([np.exp(-T1), 1 + np.sin(40 * T1)])


def begun(one, *speeds):
    """State of a PID controller in a FunctionSpace, after steps of some speeds."""
    return (one, one, jnp.asarray(False)), jnp.asarray(speeds)


def test_error_of_the_outputs_is_held():
    gain = jnp.asarray([1.0, 1e-8])
    inner = dfx.PIDController(rtol=1e-5, atol=1e-9)
    y, steps = final(FunctionSpace(inner, lambda y: gain * y, 0.0), gain)
    found, expected = gain * y, gain * exact()
    assert np.abs(found - expected).max() < 1e-4
    _, steps_of_states = final(inner, gain)
    # What does not show costs no steps.
    assert 3 * int(steps) < int(steps_of_states)


def test_identity_outputs_measure_the_state_by_its_root_mean_square():
    error = {"a": jnp.asarray([3e-3, 4e-3])}
    state = {"a": jnp.asarray([0.3, 0.4])}
    inner = dfx.PIDController(rtol=1e-2, atol=0.0, norm=max_over_flows)
    controller = FunctionSpace(inner, lambda y: y, 0.0)
    one = jnp.asarray(1.0)
    inner_state = begun(one)
    # The error's size is 1e-2 of the state's: just the tolerance, by hand.
    for factor, kept in ((0.99, True), (1.01, False)):
        scaled = {"a": factor * error["a"]}
        decision = controller.adapt_step_size(
            0.0 * one, one, state, state, None, scaled, 2, inner_state
        )
        assert bool(decision[0]) is kept


def test_outputs_that_start_at_zero_are_measured_by_the_targets():
    error, state = jnp.asarray([5e-3]), jnp.asarray([0.0])
    one = jnp.asarray(1.0)
    inner_state = begun(one)
    inner = dfx.PIDController(rtol=1e-2, atol=0.0)
    for scale, kept in ((1.0, True), (0.1, False)):
        controller = FunctionSpace(inner, lambda y: y, scale)
        decision = controller.adapt_step_size(
            0.0 * one, one, state, state, None, error, 2, inner_state
        )
        assert bool(decision[0]) is kept


def test_small_parameters_are_held_by_their_size():
    """Errors far below the outputs, of an array as small: three times as tight."""
    one, rtol = jnp.asarray(1.0), 1e-2
    inner = dfx.PIDController(rtol=rtol, atol=0.0, norm=max_over_flows)
    # Speeds of the step before that no step here exceeds.
    inner_state = begun(one, np.inf, np.inf)
    state = {"small": jnp.asarray([3e-8, 4e-8]), "rounding": jnp.zeros(2)}
    size = np.sqrt(12.5) * 1e-8
    controller = FunctionSpace(
        inner, lambda y: y["small"], 1.0, lambda y: [y["small"], y["rounding"]]
    )
    for factor, kept in ((0.99, True), (1.01, False)):
        # What symmetry keeps at zero has errors of rounding alone, which do not count.
        error = {
            "small": jnp.full(2, factor * rtol * size / 3),
            "rounding": jnp.full(2, 1e-23),
        }
        decision = controller.adapt_step_size(
            0.0 * one, one, state, state, None, error, 2, inner_state
        )
        assert bool(decision[0]) is kept


def test_what_accelerates_is_held_by_its_movement():
    """A small movement of an array of size one: ten times it is the size."""
    one, rtol, move = jnp.asarray(1.0), 1e-2, 1e-5
    inner = dfx.PIDController(rtol=rtol, atol=0.0, norm=max_over_flows)
    controller = FunctionSpace(inner, lambda y: 0 * y, 1.0, lambda y: [y])
    start, end = jnp.ones(3), jnp.ones(3) + move
    for before, size in ((0.99 * move, 10 * move), (1.01 * move, 1 + move)):
        for factor, kept in ((0.99, True), (1.01, False)):
            error = jnp.full(3, factor * rtol * size / 3)
            decision = controller.adapt_step_size(
                0.0 * one, one, start, end, None, error, 2, begun(one, before)
            )
            assert bool(decision[0]) is kept
            # A step refused is none that the next one is compared with.
            speed = decision[4][1]
            np.testing.assert_allclose(speed, [move if kept else before], rtol=1e-9)
    # With kinks the size alone counts.
    controller = FunctionSpace(
        inner, lambda y: 0 * y, 1.0, lambda y: [y], by_movement=False
    )
    for factor, kept in ((0.99, True), (1.01, False)):
        error = jnp.full(3, factor * rtol * (1 + move) / 3)
        decision = controller.adapt_step_size(
            0.0 * one, one, start, end, None, error, 2, begun(one, 0.99 * move)
        )
        assert bool(decision[0]) is kept


@pytest.mark.parametrize("arrays", [[], [jnp.zeros((2, 0))]])
def test_parameters_without_numbers_hold_no_step(arrays):
    one = jnp.asarray(1.0)
    inner = dfx.PIDController(rtol=1e-2, atol=0.0, norm=max_over_flows)
    controller = FunctionSpace(inner, lambda y: y, 1.0, lambda y: arrays)
    for factor, kept in ((0.99, True), (1.01, False)):
        error = jnp.full(2, factor * 1e-2)
        decision = controller.adapt_step_size(
            0.0 * one, one, jnp.ones(2), jnp.ones(2), None, error, 2,
            begun(one),
        )  # fmt: skip
        assert bool(decision[0]) is kept


def test_a_state_that_is_not_finite_shrinks_the_step():
    one = jnp.asarray(1.0)
    controller = FunctionSpace(
        dfx.PIDController(rtol=1e-2, atol=1e-3), lambda y: y, one
    )
    keep, t0, t1, *_ = controller.adapt_step_size(
        0.0 * one, one, one[None], one[None] * jnp.nan, None, one[None], 2,
        begun(one),
    )  # fmt: skip
    assert not keep
    assert not float(t0)
    assert 0 < float(t1) < 0.5


def test_without_outputs_it_says_what_is_missing():
    controller = FunctionSpace(dfx.PIDController(rtol=1e-2, atol=1e-3))
    with pytest.raises(ValueError, match="outputs="):
        final(controller, jnp.ones(2))
