import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.kernels import default_max_bytes
from ntkflow.measures import (
    EnergyDefect,
    KernelDrift,
    KernelRegression,
    KernelStep,
    KernelVelocity,
    LambdaMin,
    ParameterDistance,
    Sharpness,
    Spectrum,
    _cost,
    check_affordable,
    estimate,
)
from ntkflow.measures._flop_count import count_flops
from ntkflow.models import MLP, DeepLinear
from ntkflow.problem import Problem

from .snapshots import IN, K, N, make_problem

SIZE = N * K


def test_flops_of_products_and_loops_are_counted():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    product = 2 * 3 * 4 * 5

    def repeated(a, b):
        return jax.lax.scan(lambda c, _: (c, a @ b), 0, length=7)[1]

    def branching(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: jnp.zeros((3, 5)))

    assert count_flops(jnp.matmul, a, b) == product
    assert count_flops(jax.jit(repeated), a, b) == 7 * product
    assert product <= count_flops(branching, a, b) <= product + 5
    image, kernel = jnp.ones((1, 2, 6, 6)), jnp.ones((3, 2, 3, 3))
    convolved = count_flops(
        lambda u, w: jax.lax.conv(u, w, (1, 1), "VALID"), image, kernel
    )
    assert convolved == 2 * (3 * 4 * 4) * (2 * 3 * 3)


def test_kernels_are_paid_once_for_all_measures():
    problem = make_problem()
    one = estimate([KernelDrift()], problem)
    two = estimate([KernelDrift(), Spectrum(3)], problem)
    assert two.flops - one.flops == Spectrum(3).flops(problem)
    assert two.kernel_bytes == one.kernel_bytes == 4 * SIZE**2 * 8
    with_velocity = estimate([KernelDrift(), KernelVelocity()], problem)
    assert with_velocity.kernel_bytes == 7 * SIZE**2 * 8
    assert with_velocity.flops > 2 * one.flops


def test_measures_without_a_kernel_cost_none():
    problem = make_problem()
    cost = estimate([ParameterDistance(), EnergyDefect()], problem)
    assert cost.kernel_bytes == 0
    assert cost.flops == 3 * problem.n_params + 4
    said = check_affordable([ParameterDistance()], problem, 10)
    assert "no kernel" in said
    assert "for 10" in said


def test_kernel_of_a_dense_network_costs_its_widths(key):
    # (NK)² products of cotangents as long as each hidden layer is wide, and no more
    # than twice that for the rest; forming Jacobians would take width times as much.
    n, k, width = 40, 3, 256
    model = MLP(IN, k, width, 2, key=key)
    rng = np.random.default_rng(0)
    problem = Problem(model, rng.normal(size=(n, IN)), rng.normal(size=(n, k)))
    flops = estimate([KernelDrift()], problem).flops
    products = 2 * (n * k) ** 2 * 2 * width
    assert products <= flops <= 3 * products


def test_kernel_beyond_memory_is_refused_with_a_remedy(key):
    n = 10**6
    problem = Problem(
        DeepLinear(1, 1, 1, 0, key=key), np.ones((n, 1)), np.zeros((n, 1))
    )
    with pytest.raises(ValueError, match="Train on at most") as refused:
        check_affordable([LambdaMin()], problem, 10)
    assert "32000.0 GB" in str(refused.value)
    fits = int(str(refused.value).split("at most ")[2].split(" ")[0])
    bound = 2 * default_max_bytes()
    assert 4 * fits**2 * 8 <= bound < 4 * (fits + 1) ** 2 * 8
    with pytest.raises(ValueError, match="leave out KernelVelocity"):
        check_affordable([KernelVelocity()], problem, 10)


def test_examples_that_fit_leave_memory_for_the_rows_of_a_test_set(monkeypatch):
    measured = [KernelDrift(), KernelRegression()]
    problem = make_problem()
    monkeypatch.setattr(_cost, "default_max_bytes", lambda: 500)
    with pytest.raises(ValueError, match="Train on at most") as refused:
        check_affordable(measured, problem, 1)
    fits = int(str(refused.value).split("on at most ")[1].split(" ")[0])

    def held(n):
        """Four kernels of training examples, two of them with four test examples."""
        return 8 * K**2 * (4 * n**2 + 2 * 4 * n)

    assert held(N) == estimate(measured, problem).kernel_bytes
    assert held(fits) <= 2 * 500 < held(fits + 1)


def test_measures_of_the_trace_kernel_are_charged_for_no_full_one():
    problem = make_problem()
    full, trace = (
        estimate([KernelDrift(outputs=o)], problem) for o in ("full", "trace")
    )
    assert trace.kernel_bytes * K**2 == full.kernel_bytes
    assert trace.flops < full.flops
    both = estimate([KernelDrift(), KernelDrift(outputs="trace")], problem)
    # Beside the full kernel the trace is a sum of it, not another kernel.
    assert both.flops - full.flops == 3 * N**2
    said = check_affordable([KernelDrift(outputs="trace")], problem, 5)
    assert f"[{N}, {N}]" in said


def test_kernels_beside_that_of_the_training_set_are_paid():
    problem = make_problem()
    one = estimate([KernelDrift()], problem)
    step = estimate([KernelDrift(), KernelStep()], problem)
    assert step.kernel_bytes - one.kernel_bytes == SIZE**2 * 8
    assert step.flops > 1.9 * one.flops
    tested = estimate([KernelDrift(), KernelRegression()], problem)
    assert tested.kernel_bytes - one.kernel_bytes == 2 * 4 * K * SIZE * 8
    assert tested.flops > one.flops
    sharp = estimate([Sharpness()], problem)
    assert sharp.kernel_bytes == 0
    # Twelve products, of which each takes at least two passes of either kind.
    assert sharp.flops > 12 * 4 * 2 * N * problem.n_params


def test_trace_measures_run_where_the_full_kernel_does_not_fit(monkeypatch):
    problem = make_problem()
    # Room for four full kernels less one byte.
    monkeypatch.setattr(_cost, "default_max_bytes", lambda: 2 * SIZE**2 * 8 - 1)
    with pytest.raises(ValueError, match='give the measures outputs="trace"'):
        check_affordable([KernelDrift()], problem, 10)
    assert check_affordable([KernelDrift(outputs="trace")], problem, 10)
    monkeypatch.setattr(_cost, "default_max_bytes", lambda: 2 * N**2 * 8 - 1)
    with pytest.raises(ValueError, match=rf"trace kernel .* \[{N}, {N}\]") as refused:
        check_affordable([KernelDrift(outputs="trace")], problem, 10)
    assert f"at most {N - 1} examples" in str(refused.value)
    assert 'outputs="trace"' not in str(refused.value)


def test_announcement_names_the_matrix_and_the_time():
    said = check_affordable([KernelDrift(), Spectrum(None)], make_problem(), 50)
    assert f"[{SIZE}, {SIZE}]" in said
    assert "for 50" in said
    assert "about less" not in said
