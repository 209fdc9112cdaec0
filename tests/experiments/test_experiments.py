import re
import shutil
from typing import get_args

import numpy as np
import pytest
import xarray as xr

from ntkflow.experiments import (
    Experiment,
    _run,
    build_problem,
    builtin_names,
    load_builtin,
    load_experiment,
    load_results,
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


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual_mlp", "deep_linear"])
def test_every_model_and_wrapper_can_be_described(name):
    tables = QUICK | {
        "model": {"name": name, "width": 4, "antisymmetric": True, "alpha": 0.5},
        "training": {"decay": 0.1, "decay_towards": "initial", "reduction": "mean"},
    }
    problem = build_problem(Experiment.model_validate(tables))
    assert problem.time_scale == pytest.approx(1 / 0.25 / 20)
    np.testing.assert_array_equal(problem.outputs(problem.params, problem.x), 0)


def test_a_run_leaves_its_description_checkpoint_and_results(tmp_path):
    description = Experiment.model_validate(QUICK)
    run = run_experiment(description, tmp_path, name="quick", progress=False)
    assert load_experiment(tmp_path / "experiment.toml") == description
    loaded = load_results(tmp_path)
    np.testing.assert_array_equal(loaded.dataset.f_train, run.dataset.f_train)
    assert loaded.dataset.attrs["experiment"] == "quick"
    other = Experiment.model_validate(override(QUICK, ["model.width=9"]))
    with pytest.raises(ValueError, match="holds another experiment"):
        run_experiment(other, tmp_path, progress=False)
    with pytest.raises(ValueError, match="ntkflow report"):
        run_experiment(description, tmp_path, progress=False)
    shutil.rmtree(tmp_path / "trajectory.zarr")
    with pytest.raises(ValueError, match="--resume"):
        run_experiment(description, tmp_path, progress=False)


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


def test_a_finished_run_is_read_when_it_is_resumed(tmp_path, monkeypatch):
    description = Experiment.model_validate(QUICK)
    run = run_experiment(
        description, tmp_path, name="quick", resume=True, progress=False
    )
    monkeypatch.setattr(_run, "build_problem", lambda _: pytest.fail("was built"))
    again = run_experiment(description, tmp_path, resume=True)
    assert again.reason == run.reason
    xr.testing.assert_equal(again.dataset, run.dataset)


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
