import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from ntkflow.flows import (
    Coupled,
    Gradient,
    Linearized,
    Momentum,
    Quadrature,
    Residual,
    max_over_flows,
)
from ntkflow.problem import Problem
from tests.simulate.problems import dense_kernel, tiny
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

FLOWS = (
    Gradient(),
    Residual("evolving"),
    Residual("frozen"),
    Linearized(),
    Momentum(0.7),
    Quadrature(Gradient()),
)


def derivative(flows, problem, state=None):
    coupled = Coupled(tuple(flows))

    @eqx.filter_jit
    def evaluate(problem, state):
        constants = coupled.prepare(problem)
        given = coupled.init(problem) if state is None else state
        return coupled.vector_field(given, problem, constants, coupled.origin(problem))

    return evaluate(problem, state)


def moved_state(problem):
    """A state away from t = 0, different in every flow."""
    state = Coupled(FLOWS).init(problem)
    leaves, tree = jtu.tree_flatten(state)
    shifts = np.random.default_rng(0)
    leaves = [
        leaf + 0.1 * shifts.standard_normal(leaf.shape).astype(leaf.dtype)
        for leaf in leaves
    ]
    return jtu.tree_unflatten(tree, leaves)


def test_coupled_vector_field_equals_the_flows_on_their_own():
    problem = tiny()
    state = moved_state(problem)
    together = derivative(FLOWS, problem, state)
    for flow in FLOWS:
        members = [flow] if flow.along is None else [Gradient(), flow]
        alone = derivative(members, problem, state)
        for a, b in zip(
            jtu.tree_leaves(together[flow.name]),
            jtu.tree_leaves(alone[flow.name]),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=roundoff(100), atol=roundoff(100))


@pytest.mark.parametrize("kernel", ["evolving", "frozen"])
def test_residual_vector_field_is_minus_the_kernel_times_the_residual(kernel):
    problem = tiny(reduction="mean")
    rate = derivative([Residual(kernel), *FLOWS[:1]][::-1], problem)
    r = np.asarray(problem.outputs(problem.params, problem.x) - problem.y).ravel()
    c = 1 / 6
    expected = -c * dense_kernel(problem) @ r
    tolerance = roundoff(200) * np.abs(expected).max()
    own = rate[f"residual_{kernel}"]
    np.testing.assert_allclose(own.train.ravel(), expected, atol=tolerance)
    expected = -c * dense_kernel(problem, problem.x_test) @ r
    np.testing.assert_allclose(own.test.ravel(), expected, atol=tolerance)


def test_formed_and_matrix_free_frozen_kernels_agree(monkeypatch):
    from ntkflow.flows import _residual

    problem = tiny(n=4)
    state = moved_state(problem)
    rates = []
    for forming in (True, False):
        monkeypatch.setattr(_residual, "_forming_pays", lambda problem, f=forming: f)
        rates.append(derivative([Residual("frozen")], problem, state))
    for a, b in zip(*map(jtu.tree_leaves, rates), strict=True):
        np.testing.assert_allclose(a, b, rtol=roundoff(200), atol=roundoff(200))


def test_packed_state_unpacks_to_itself():
    problem = tiny()
    coupled = Coupled(FLOWS)
    state = moved_state(problem)
    again = coupled.unpack(coupled.pack(state), problem)
    assert jtu.tree_structure(again) == jtu.tree_structure(state)
    for a, b in zip(jtu.tree_leaves(again), jtu.tree_leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_norm_does_not_dilute_a_small_flow():
    errors = {"many": jnp.full(10_000, 0.01), "few": jnp.full(4, 2.0)}
    assert max_over_flows(errors) == pytest.approx(2.0)
    zero = {"one": jnp.zeros(3)}
    assert max_over_flows(zero) == 0
    slope = jax.grad(lambda e: max_over_flows({"one": e}))(jnp.zeros(3))
    assert jnp.isfinite(slope).all()


def test_unknown_or_repeated_flows_are_refused():
    with pytest.raises(ValueError, match="given twice"):
        Coupled((Gradient(), Gradient()))
    with pytest.raises(ValueError, match="flow for residual_evolving to run along"):
        Coupled((Residual("evolving"),))
    with pytest.raises(ValueError, match="Valid names: 'gradient'"):
        Coupled((Residual("evolving", along="momentum"),))
    with pytest.raises(ValueError, match="Did you mean 'frozen'"):
        Residual("froze")
    with pytest.raises(ValueError, match="is that of gradient flow"):
        Coupled((Momentum(0.7), Residual("evolving", along="momentum")))
    with pytest.raises(ValueError, match="runs along no flow"):
        Residual("frozen", along="gradient")
    with pytest.raises(ValueError, match="damping must be positive"):
        Momentum(0.0)


def test_gradient_flow_needs_reverse_mode_only():
    """A model whose derivative exists in reverse mode alone can still be trained."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))

    class Reverse(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return square(self.weight @ x)

    weight = jnp.array([[0.5, -1.0, 0.3]])
    problem = Problem(Reverse(weight), jnp.eye(3), jnp.zeros((3, 1)))
    rate = derivative([Gradient()], problem)["gradient"].weight
    # L = ½Σ w_j⁴, so ẇ = −2w³.
    np.testing.assert_allclose(rate, -2 * weight**3, rtol=roundoff(4))
