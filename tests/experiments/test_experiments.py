import re
import tomllib
from typing import get_args

import numpy as np
import pytest

from ntkflow.experiments import (
    Experiment,
    _run,
    build_problem,
    builtin_names,
    load_builtin,
    load_experiment,
    override,
    parse_experiment,
    report_path,
    run_experiment,
)
from ntkflow.experiments._build_simulation import build_measures
from ntkflow.experiments._simulation import MeasureName, Simulation
from ntkflow.experiments._write import to_toml

QUICK = {
    "data": {"n_train": 20, "n_test": 10, "classes": [0, 1]},
    "model": {"width": 8, "depth": 1},
    "simulation": {
        "t_last": 1.0,
        "n_times": 4,
        "flows": ["gradient", "residual_frozen"],
        "measures": ["kernel_drift"],
    },
}


def test_builtin_experiments_are_valid_and_as_large_as_promised():
    assert builtin_names() == ["deep-linear", "digits", "digits-cnn", "digits-rich"]
    for name in builtin_names():
        description = parse_experiment(load_builtin(name), name)
        assert len(description.simulation.flows) == 4
        assert description.simulation.n_times >= 40
        assert description.simulation.measures == "default"
    digits = parse_experiment(load_builtin("digits"), "digits")
    assert digits.data.n_train >= 200
    assert digits.model.width >= 128
    assert digits.model.depth == 2
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        load_builtin("digit")


def test_a_description_reads_back_from_its_own_toml(tmp_path):
    for name in builtin_names():
        description = parse_experiment(load_builtin(name), name)
        path = tmp_path / f"{name}.toml"
        path.write_text(to_toml(description))
        assert load_experiment(path) == description


def test_set_overrides_single_entries():
    tables = override(
        {"model": {"width": 4}},
        ["model.width=8", "model.activation=relu", "data.classes=[1, 2]", "title=x y"],
    )
    assert tables == {
        "model": {"width": 8, "activation": "relu"},
        "data": {"classes": [1, 2]},
        "title": "x y",
    }
    for bad in ("model.width", "a.b.c=1", ".x=1"):
        with pytest.raises(ValueError, match=r"table\.key=value"):
            override({}, [bad])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["title.x=1"], "sets an entry of title, which is no table but 'T'"),
        (["model=3", "model.width=4"], "sets an entry of model, .* but 3"),
        (["solver=auto", "solver.name=rock4"], "sets an entry of solver, .* 'auto'"),
        (["data=[1]", "data.seed=4"], r"sets an entry of data, .* \[1\]"),
    ],
)
def test_entries_of_what_is_no_table_cannot_be_set(settings, message):
    with pytest.raises(ValueError, match=message):
        override({"title": "T", "model": {"width": 4}}, settings)


def test_tables_are_set_as_a_whole_and_left_as_they_were_given():
    tables = {"model": {"width": 4}}
    changed = override(tables, ["model={depth = 3}", "model.width=8", "solver.name=a"])
    assert changed == {"model": {"depth": 3, "width": 8}, "solver": {"name": "a"}}
    assert tables == {"model": {"width": 4}}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"modle": {}}, "modle: unknown key. Did you mean 'model'"),
        ({"model": {"widht": 3}}, "model.widht: unknown key. Did you mean 'width'"),
        ({"model": {"width": "wide"}}, "model.width: .*integer.*got 'wide'"),
        ({"model": {"width": 0}}, "model.width: .*greater than or equal to 1.*got 0"),
        ({"model": {"name": "mpl"}}, "model.name: got 'mpl'. Did you mean 'mlp'"),
        ({"simulation": {"flows": ["gradeint"]}}, "Did you mean 'gradient'"),
        ({"simulation": {"measures": "defualt"}}, "Did you mean 'default'"),
        ({"model": {"activation": "reluu"}}, "activation 'reluu'. Did you mean 'relu'"),
        ({"simulation": {"t_last": 1e-9}}, "t_first must be smaller"),
        ({"data": {"name": "file"}}, "path goes with"),
        ({"model": 3}, r"model: expected a table, \[model\].*got 3"),
        ({"descent": 3}, r"descent: expected a table, \[descent\].*got 3"),
        ({"solver": "rock4"}, r'\[solver\] .* name = "auto" .*got \'rock4\''),
        ({"solver": {}}, "solver.name: this entry is missing. Expected auto, tsit5"),
        ({"solver": {"name": "rok4"}}, "solver.name: got 'rok4'. Did you mean 'rock4'"),
        (
            {"solver": {"name": "rock4", "max_stage": 9}},
            "solver.max_stage: unknown key. Did you mean 'max_stages'",
        ),
        ({"solver": {"name": "tsit5", "safety": 2}}, "solver.safety: unknown key"),
        ({"solver": {"name": "descent"}}, "solver.learning_rate: this entry is miss"),
        (
            {"simulation": {"measures": "kernel_drft"}},
            "simulation.measures: Unknown measure 'kernel_drft'. Did you mean 'kernel",
        ),
        (
            {"simulation": {"measures": "kernel_drift"}},
            r'simulation.measures: expected a list of names, \["kernel_drift"\]; got',
        ),
        ({"simulation": {"flows": "gradeint"}}, "Unknown flow 'gradeint'. Did you mea"),
        ({"simulation": {"flows": "gradient"}}, r'list of names, \["gradient"\]; got'),
        ({"data": {"classes": 3}}, "data.classes: expected a list.*got 3"),
        ({"simulation": {"flows": ["descent"]}}, r"needs a table \[descent\]"),
        ({"simulation": {"flows": ["modified"]}}, r"needs a table \[descent\]"),
        ({"descent": {"learning_rate": 1}}, "goes with the flows 'descent' and"),
        (
            {
                "simulation": {"flows": ["modified"]},
                "descent": {"learning_rate": 1, "batch_size": 2},
            },
            "full batches only",
        ),
        ({"model": {"state_size": 4}}, 'state_size goes with name = "neural_ode"'),
        ({"title": "two\nlines"}, "title: expected one line of printable characters"),
        ({"title": "\x1b[2J"}, "title: expected one line of printable characters"),
        ({"data": {"seed": -1}}, "data.seed: .*greater than or equal to 0, got -1"),
        ({"model": {"seed": 2**70}}, "model.seed: .*less than"),
    ],
)
def test_faults_name_the_key_and_the_nearest_valid_one(tables, message):
    with pytest.raises(ValueError, match=message):
        parse_experiment(tables, "x.toml")


def test_one_fault_is_told_once_and_in_our_words():
    for wrong in (["Drift"], "Drift", 3):
        with pytest.raises(ValueError) as caught:
            parse_experiment({"simulation": {"measures": wrong}}, "x.toml")
        _, fault = str(caught.value).splitlines()
        assert fault.startswith("  simulation.measures")
        assert not re.search(r"(?i)literal|tuple", fault)
        assert repr("Drift" if wrong != 3 else 3) in fault


NUMBERS = [
    ("data", "strengths"),
    ("model", "w_std"),
    ("model", "b_std"),
    ("model", "alpha"),
    ("model", "t1"),
    ("model", "depth_rtol"),
    ("training", "decay"),
    ("simulation", "t_first"),
    ("simulation", "t_last"),
    ("simulation", "rtol"),
    ("simulation", "atol"),
    ("simulation", "stop_loss"),
    ("simulation", "damping"),
    ("solver", "safety"),
    ("descent", "learning_rate"),
    ("descent", "momentum"),
]
"""Every entry that is a real number."""


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(("table", "key"), NUMBERS)
def test_numbers_are_finite(table, key, value):
    tables = {"solver": {"name": "rock4"}} if table == "solver" else {}
    text = f"[{value}]" if key == "strengths" else value
    changed = override(tables, [f"{table}.{key}={text}"])
    with pytest.raises(ValueError, match=rf"{table}.{key}[.0]*: .*got {value}"):
        parse_experiment(changed, "x.toml")


@pytest.mark.parametrize(
    "tables",
    [
        {"title": 'a "b" \\ [/b] [n=64] \N{SNOWMAN}'},
        {"simulation": {"t_last": 1e300, "rtol": 1e-300}},
        {"solver": {"name": "rock4", "max_stages": 9}},
        {"solver": {"name": "descent", "learning_rate": 0.1}},
        {
            "simulation": {"flows": ["descent", "gradient"]},
            "descent": {"learning_rate": 0.1, "batch_size": 7},
        },
        {"model": {"name": "neural_ode", "depth_rtol": 1e-6}, "data": {"classes": [1]}},
    ],
)
def test_every_table_reads_back_from_its_own_toml(tables):
    description = parse_experiment(tables, "x.toml")
    again = parse_experiment(tomllib.loads(to_toml(description)), "y.toml")
    assert again == description


def test_control_characters_are_escaped():
    # JSON leaves this character as it is, and TOML allows it only escaped.
    description = Experiment.model_validate({
        "data": {"name": "file", "path": "a\x7fb.npz"}
    })
    assert tomllib.loads(to_toml(description))["data"]["path"] == "a\x7fb.npz"


@pytest.mark.parametrize("path", ["none.npz", ".", "none/x.npz"])
def test_data_that_cannot_be_read_are_named(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    description = Experiment.model_validate({"data": {"name": "file", "path": path}})
    with pytest.raises(ValueError, match=f"data.path = '{path}' cannot be read: "):
        build_problem(description)


def test_every_name_of_a_measure_makes_one():
    names = get_args(MeasureName)
    made = build_measures(Simulation(measures=names))
    assert made is not None
    for name, measure in zip(names, made, strict=True):
        assert name.endswith("_trace") == (getattr(measure, "outputs", "") == "trace")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_experiment(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("model = {")
    with pytest.raises(ValueError, match="not valid TOML"):
        load_experiment(path)


def test_whitened_teacher_has_the_stated_singular_values():
    problem = build_problem(parse_experiment(load_builtin("deep-linear"), "x"))
    x, y = np.asarray(problem.x), np.asarray(problem.y)
    np.testing.assert_allclose(x.T @ x, np.eye(16), atol=1e-13)
    strengths = np.linalg.svd(y.T @ x, compute_uv=False)
    np.testing.assert_allclose(strengths, [4, 2, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "residual_mlp", "deep_linear", "neural_ode"]
)
def test_every_model_and_wrapper_can_be_described(name):
    tables = QUICK | {
        "model": {"name": name, "width": 4, "antisymmetric": True, "alpha": 0.5},
        "training": {"decay": 0.1, "decay_towards": "initial", "reduction": "mean"},
    }
    problem = build_problem(Experiment.model_validate(tables))
    assert problem.time_scale == pytest.approx(1 / 0.25 / 20)
    np.testing.assert_array_equal(problem.outputs(problem.params, problem.x), 0)


def test_a_directory_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(_run, "build_problem", lambda _: pytest.fail("was built"))
    description = Experiment.model_validate(QUICK)
    (tmp_path / "file").touch()
    for out, message in (("file", "is a file"), ("file/x", "cannot be made")):
        with pytest.raises(ValueError, match=message):
            run_experiment(description, tmp_path / out)
    (tmp_path / "trajectory.zarr").mkdir()
    (tmp_path / "experiment.toml").write_text(to_toml(description))
    with pytest.raises(ValueError, match="It has no report"):
        run_experiment(description, tmp_path)
    (tmp_path / "report.html").touch()
    with pytest.raises(ValueError, match=r"Its report is .*report\.html; .*--out"):
        run_experiment(description, tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("run", "run/report.html"),
        ("run/trajectory.zarr", "run/report.html"),
        ("run/checkpoint", "run/report.html"),
        ("saved.zarr", "saved-report.html"),
    ],
)
def test_reports_are_written_beside_stores(tmp_path, given, expected):
    for name in ("run/trajectory.zarr", "run/checkpoint", "saved.zarr"):
        (tmp_path / name).mkdir(parents=True)
    assert report_path(tmp_path / given) == tmp_path / expected
