"""What a description names is what is made."""

import itertools
import math
from typing import get_args

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.experiments import _run, build_problem, parse_experiment, run_experiment
from ntkflow.experiments._build_simulation import build_flows, build_solver
from ntkflow.experiments._description import Experiment

SOLVERS = {
    "auto": "auto",
    "tsit5": dfx.Tsit5(),
    "dopri5": dfx.Dopri5(),
    "dopri8": dfx.Dopri8(),
    "chebyshev": nf.solvers.Chebyshev(),
    "rock4": nf.solvers.Rock4(),
    "kernel_implicit": nf.solvers.KernelImplicit(),
    "kernel_exponential": nf.solvers.KernelExponential(),
    "descent": nf.solvers.Descent(0.1),
}
"""With every option left out, but for a learning rate."""

TEACHER = {
    "name": "linear_teacher",
    "n_train": 6,
    "n_test": 2,
    "in_size": 2,
    "out_size": 1,
    "strengths": [1.0],
}


def parsed(**tables) -> Experiment:
    return parse_experiment(tables, "x.toml")


def same(a, b) -> bool:
    return type(a) is type(b) and bool(eqx.tree_equal(a, b))


def test_every_solver_of_the_table_is_known_here():
    kinds = get_args(Experiment.model_fields["solver"].annotation)
    names = [get_args(kind.model_fields["name"].annotation) for kind in kinds]
    assert list(itertools.chain(*names)) == list(SOLVERS)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_by_its_name_has_its_own_defaults(name):
    options = {"learning_rate": 0.1} if name == "descent" else {}
    made = build_solver(parsed(solver={"name": name, **options}).solver)
    assert made == "auto" if name == "auto" else same(made, SOLVERS[name])


def test_options_reach_the_solver():
    options = {"max_stages": 50, "safety": 1.2, "refresh": 5, "max_products": 30}
    made = build_solver(parsed(solver={"name": "chebyshev", **options}).solver)
    assert same(made, nf.solvers.Chebyshev(**options))
    made = build_solver(parsed(solver={"name": "rock4", **options}).solver)
    assert same(made, nf.solvers.Rock4(**options))
    kernel = {"name": "kernel_exponential", "max_size": 12}
    made = build_solver(parsed(solver=kernel).solver)
    assert same(made, nf.solvers.KernelExponential(max_size=12))


def test_descent_and_modified_are_those_of_the_table():
    description = parsed(
        simulation={"flows": ["gradient", "descent", "modified"]},
        descent={"learning_rate": 0.1, "momentum": 0.9},
    )
    gradient, descent, modified = build_flows(description, 20)
    expected = nf.flows.Descent(0.1, momentum=0.9)
    assert same(gradient, nf.flows.Gradient())
    assert same(descent, expected)
    assert same(modified, nf.flows.Modified(expected))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_batches_take_every_example_once_an_epoch(momentum):
    description = parsed(
        simulation={"flows": ["descent"], "t_last": 2.0},
        descent={
            "learning_rate": 0.1,
            "momentum": momentum,
            "batch_size": 6,
            "seed": 3,
        },
    )
    (flow,) = build_flows(description, 20)
    assert isinstance(flow, nf.flows.Descent)
    assert flow.batches is not None
    batches = np.asarray(flow.batches)
    updates = math.ceil(2.0 / flow.step)
    assert updates <= len(batches) < updates + 3
    epochs = batches[: len(batches) // 3 * 3].reshape(-1, 18)
    for epoch in epochs:
        assert len(set(epoch)) == 18
    assert len(np.unique(epochs, axis=0)) == len(epochs)
    assert set(batches.ravel()) == set(range(20))
    (again,) = build_flows(description, 20)
    assert same(flow, again)


@pytest.mark.parametrize(
    ("descent", "message"),
    [
        ({"batch_size": 21}, "batch_size = 21 exceeds the 20"),
        ({"batch_size": 5, "learning_rate": 1e-9}, "more than simulation.max_steps"),
    ],
)
def test_batches_that_cannot_be_drawn_are_refused(descent, message):
    description = parsed(
        simulation={"flows": ["descent"]}, descent={"learning_rate": 0.1, **descent}
    )
    with pytest.raises(ValueError, match=message):
        build_flows(description, 20)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_neural_ode_is_its_parts(precision):
    model = {
        "name": "neural_ode",
        "width": 5,
        "depth": 1,
        "activation": "sin",
        "state_size": 3,
        "t1": 2.0,
        "concat_time": True,
        "depth_max_steps": 64,
        "seed": 7,
    }
    problem = build_problem(parsed(data=TEACHER, model=model, precision=precision))
    made, dtype = problem.model, jnp.dtype(precision)
    keys = jax.random.split(jax.random.key(7), 3)
    field = nf.models.MLPField(
        3, 5, 1, "sin", concat_time=True, key=keys[0], dtype=dtype
    )
    expected = nf.models.NeuralODE(
        field,
        encoder=nf.models.Dense(2, 3, key=keys[1], dtype=dtype),
        readout=nf.models.Dense(3, 1, readout=True, key=keys[2], dtype=dtype),
        depth=nf.models.Depth(2.0, max_steps=64),
    )
    assert same(eqx.filter(made, eqx.is_array), eqx.filter(expected, eqx.is_array))
    assert eqx.tree_pformat(made) == eqx.tree_pformat(expected)
    outputs = jax.eval_shape(problem.outputs, problem.params, problem.x)
    assert (outputs.shape, outputs.dtype) == ((6, 1), dtype)


def test_the_tolerance_of_depth_is_both_tolerances():
    model = {"name": "neural_ode", "width": 2, "state_size": 2, "depth_rtol": 1e-6}
    depth = build_problem(parsed(data=TEACHER, model=model)).model.depth
    assert (depth.rtol, depth.atol) == (pytest.approx(1e-6), pytest.approx(1e-6))


class _SimulatedError(Exception):
    """In place of a simulation."""


def test_a_run_is_given_what_the_tables_say(tmp_path, monkeypatch):
    given = {}

    def simulate(problem, ts, **options):
        given.update(options)
        raise _SimulatedError

    monkeypatch.setattr(_run, "simulate", simulate)
    description = parsed(
        data=TEACHER,
        model={"name": "deep_linear", "width": 2},
        simulation={"flows": ["descent"]},
        solver={"name": "chebyshev", "max_stages": 9},
        descent={"learning_rate": 0.5, "batch_size": 2},
    )
    with pytest.raises(_SimulatedError):
        run_experiment(description, tmp_path, progress=False)
    assert same(given["solver"], nf.solvers.Chebyshev(max_stages=9))
    assert [flow.name for flow in given["flows"]] == ["descent"]
    assert given["flows"][0].batches.shape[1] == 2


def test_descent_of_a_file_is_that_of_a_loop(tmp_path):
    description = parsed(
        data=TEACHER,
        model={"name": "deep_linear", "width": 2, "depth": 1},
        simulation={
            "flows": ["descent"],
            "measures": [],
            "t_first": 0.25,
            "t_last": 1.0,
            "n_times": 2,
            "global_error": False,
        },
        descent={"learning_rate": 0.25},
    )
    run = run_experiment(description, tmp_path, progress=False)
    problem = build_problem(description)
    params = problem.params
    for _ in range(4):
        params = jax.tree.map(
            lambda p, g: p - 0.25 * g, params, problem.gradient(params)
        )
    np.testing.assert_allclose(
        run.dataset.f_train.sel(flow="descent").isel(time=-1),
        problem.outputs(params, problem.x),
        rtol=1e-12,
        atol=1e-14,
    )
