"""The benchmark of solvers measures what it says; on a training with a closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf

from ..simulate.conftest import QUICKLY_COMPILED
from .solvers.__main__ import main
from .solvers.cases import Case
from .solvers.errors import errors
from .solvers.growth import exponent
from .solvers.measuring import Results
from .solvers.picture import draw
from .solvers.references import Reference, read, save_times, write
from .solvers.runs import measure_run
from .solvers.stiffness import gauss_newton_norm
from .solvers.table import equivalents, taken

COSTS = {
    "n_params": 650,
    "extrapolated": False,
    **{unit: {"cpu": 1e-3, "wall": 1e-3} for unit in ("gradient", "hvp", "jvp")},
    **{unit: {"cpu": 4e-3, "wall": 1e-3} for unit in ("kernel", "cholesky", "eigh")},
}


def linear(key):
    return nf.models.MLP(64, 10, 1, 0, key=key, dtype=jnp.float64)


CASE = Case(linear, 20, 30.0)


@pytest.fixture(scope="module")
def problem():
    return CASE.build()


@pytest.fixture(scope="module")
def kernel(problem):
    """The kernel of one output, all that a linear map has."""
    return np.asarray(nf.ntk(problem.model, problem.x)) / 10


def exact(problem, kernel, times):
    """f(t) = y + exp(−Θt)(f₀ − y), and what it is on the test inputs."""
    values, vectors = np.linalg.eigh(kernel)
    f0 = np.asarray(problem.outputs(problem.params, problem.x))
    f0_test = np.asarray(problem.outputs(problem.params, problem.x_test))
    cross = np.asarray(nf.ntk(problem.model, problem.x_test, problem.x)) / 10
    modes = vectors.T @ (f0 - np.asarray(problem.y))
    decayed = np.exp(-np.outer(times, values))[:, :, None] * modes
    train = np.asarray(problem.y) + vectors @ decayed
    learned = -np.expm1(-np.outer(times, values)) / values
    return train, f0_test - cross @ (vectors @ (learned[:, :, None] * modes))


@pytest.fixture(scope="module")
def reference(problem, kernel, tmp_path_factory):
    norm = float(np.linalg.eigvalsh(kernel)[-1])
    end, size = CASE.stiffness / norm, float(jnp.sqrt(jnp.mean(problem.y**2)))
    times = save_times(end)
    outputs = exact(problem, kernel, times)
    path = tmp_path_factory.mktemp("references") / "linear.npz"
    found = Reference(
        end, size, (norm, norm), times, outputs, "closed form", None, 0.0, 0.0
    )
    write(path, found)
    return path


def test_stiffness_is_the_largest_eigenvalue_of_the_kernel(problem, kernel):
    expected = np.linalg.eigvalsh(kernel)[-1]
    assert gauss_newton_norm(problem) == pytest.approx(expected, rel=1e-9)


def test_reference_is_read_as_it_was_written(reference, problem, kernel):
    found = read(reference)
    assert found.disagreement is None
    assert found.method == "closed form"
    np.testing.assert_array_equal(
        found.outputs[1], exact(problem, kernel, found.times)[1]
    )


@pytest.fixture(scope="module")
def rows(reference):
    """A run to the end, and one that the limit stops after its first steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, function in QUICKLY_COMPILED:
            patch.setattr(module, name, function)
        return [
            measure_run(CASE, "Tsit5", 1e-3, reference, limit=limit, repeat=3)
            for limit in (60.0, 0.0)
        ]


def test_run_is_measured_against_the_reference(rows):
    whole, _ = rows
    assert whole["reason"] == "completed"
    assert whole["t_reached"] == whole["end"]
    # The promise of the tolerances; a wrong closed form would be wrong by much more.
    assert 1e-6 < whole["error"] < 3e-3
    # Two more where a save time lies inside a step, whose error there is estimated.
    inside = whole["gradients"] - 6 * whole["steps"]
    assert inside in range(2, 2 * whole["steps"], 2)
    assert whole["runs"] == 3
    assert 0 < whole["wall"] < 60


def test_run_beyond_the_limit_is_stopped_and_shown(rows, reference, tmp_path, capsys):
    whole, stopped = rows
    assert stopped["reason"] == "max_steps"
    assert 0 < stopped["t_reached"] < stopped["end"]
    results = Results(tmp_path / "solvers.json")
    about = {"end": read(reference).end, "lambdas": read(reference).lambdas}
    about |= {"method": "closed form", "disagreement": None, "predicted": 1.0}
    case = {"n": 20, "stiffness": 30.0, "costs": COSTS, "reference": about}
    results.add_case("tanh-64", case)
    results.add_run("runs", {"case": "tanh-64", **whole})
    results.add_run("runs", {"case": "tanh-64", **stopped, "rtol": 1e-4})
    failed = {"case": "tanh-64", "solver": "Dopri8", "rtol": 1e-3, "failed": "no step"}
    results.add_run("runs", failed)
    main(["--saved", "--out", str(tmp_path / "solvers.json")])
    printed = capsys.readouterr().out
    assert "stopped at t = " in printed
    assert "no step" in printed
    draw(results.kept, tmp_path / "solvers.png")
    assert (tmp_path / "solvers.png").stat().st_size > 10_000


def test_work_counts_in_gradients():
    counts = {"gradients": 5, "hvps": 2, "jacobians": 3, "kernel_builds": 1}
    row = {"solver": "Chebyshev", **counts, "factorizations": 2}
    # A kernel and a decomposition take four gradients each.
    assert equivalents(row, COSTS) == 5 + 2 * 2 + 3 + 3 * 4
    # Its first decomposition is made before the first step, uncounted.
    exponential = row | {"solver": "KernelExponential"}
    assert equivalents(exponential, COSTS) == 5 + 2 * 2 + 3 + (3 + 2) * 4


def curve(order, rtols, **extra):
    """Runs whose error falls as the work to the power −order."""
    done = {"solver": "Tsit5", "end": 1.0, "t_reached": 1.0, "reason": "completed"}
    done |= extra
    return [
        {"rtol": rtol, "error": rtol, "wall": rtol ** (-1 / order), **done}
        for rtol in rtols
    ]


def test_work_at_an_error_lies_on_the_curve():
    found = taken(curve(3, (1e-1, 1e-2, 1e-4, 1e-5)), "wall", 1e-3)
    assert found is not None
    assert found.mark == ""
    assert found.value == pytest.approx(10.0, rel=1e-12)


def test_work_that_is_only_bounded_is_marked():
    exact_enough = taken(curve(2, (1e-4, 1e-6)), "wall", 1e-3)
    assert str(exact_enough) == "≤100"
    assert taken(curve(2, (1e-1, 1e-2)), "wall", 1e-3) is None
    half = taken(curve(2, (1e-2, 1e-4), t_reached=0.5, reason="max_steps"), "wall")
    assert half is not None
    assert half.mark == "~"
    assert half.value == pytest.approx(2 * 10**1.5, rel=1e-12)
    # Steps that grow say nothing of what is left.
    stopped = {"t_reached": 0.5, "reason": "max_steps", "solver": "Chebyshev"}
    assert taken(curve(2, (1e-2, 1e-4), **stopped), "wall") is None


def test_solution_that_comes_late_is_exact_once_aligned():
    fine, late, rate = np.linspace(0.1, 10.0, 1000), 0.01, 2.0

    def outputs(t):
        steps = np.tanh(rate * (t - 3.0))[:, None, None] * np.ones((1, 2, 1))
        return steps, 0.5 * steps

    times = fine[100::100]
    found = errors(times, outputs(times - late), fine, outputs(fine), 1.0, align=True)
    plain = np.max(
        np.abs(np.tanh(rate * (times - 3.0)) - outputs(times - late)[0][:, 0, 0])
    )
    assert found.largest == pytest.approx(plain, rel=1e-12)
    assert found.aligned is not None
    # The cubic spline's error, 5/384 h⁴ max|f''''| with |tanh''''| ≤ 4.1, and that of
    # a minimum found by values alone, half the digits of its place.
    spline = 5 / 384 * (fine[1] - fine[0]) ** 4 * 4.1 * rate**4
    place = 2 * np.sqrt(np.finfo(float).eps) * times[-1]
    assert found.aligned < spline + rate * place < 1e-4 * found.largest


def test_exponent_is_the_slope_of_the_logarithms():
    rows = [
        {"stiffness": x, "wall": 3 * x**0.4, "reason": "completed"}
        for x in (1e3, 1e4, 1e5)
    ]
    rows.append({"stiffness": 1e6, "wall": 60.0, "reason": "max_steps"})
    assert exponent(rows, "wall") == pytest.approx(0.4, rel=1e-12)
