"""Runs side by side: what stays, what becomes a coordinate, what is refused."""

import numpy as np
import pytest
import xarray as xr

import ntkflow as nf
from ntkflow.simulate._concat import _dataset
from tests.plots.datasets import FLOWS, make_dataset, make_ensemble, without_flows

ALPHAS = (0.3, 1.0, 10.0)


def runs(**attrs) -> list[xr.Dataset]:
    return [make_dataset(bend=1 / a, seed=0, alpha=a, **attrs) for a in ALPHAS]


def test_each_run_is_found_again_along_the_dimension():
    given = runs()
    together = nf.concat(given, dim="alpha")
    np.testing.assert_array_equal(together["alpha"], ALPHAS)
    assert together["f_train"].dims[0] == "alpha"
    assert together["y_train"].dims == ("example", "output")
    for alpha, run in zip(ALPHAS, given, strict=True):
        own = together.sel(alpha=alpha)
        for name, variable in run.data_vars.items():
            np.testing.assert_array_equal(own[name], variable)
            assert together[name].attrs == variable.attrs


def test_attributes_that_differ_become_coordinates():
    given = runs()
    for i, run in enumerate(given):
        run.attrs |= {"n_params": 10 * i, "solver": f"solver {i}", "nested": {"a": i}}
    given[1].attrs["stopped_by"] = "LossBelow"
    given[2].attrs["stopped_at"] = 3.5
    together = nf.concat(given, "width", [8, 16, 32])
    np.testing.assert_array_equal(together["n_params"], [0, 10, 20])
    assert list(together["solver"].values) == ["solver 0", "solver 1", "solver 2"]
    np.testing.assert_array_equal(together["alpha"], ALPHAS)
    assert list(together["stopped_by"].values) == ["", "LossBelow", ""]
    np.testing.assert_array_equal(together["stopped_at"], [np.nan, np.nan, 3.5])
    assert together["nested"].values[1] == '{"a": 1}'
    for name in ("n_params", "solver", "alpha", "stopped_by"):
        assert together[name].dims == ("width",)
        assert name not in together.attrs
    for name in ("rtol", "loss", "measures"):
        assert together.attrs[name] == given[0].attrs[name]
    assert together.attrs["concatenated_along"] == "width"


def test_an_attribute_named_like_a_variable_replaces_nothing():
    given = runs()
    for i, run in enumerate(given):
        run.attrs["sharpness"] = i
    together = nf.concat(given, "alpha")
    assert together["sharpness"].dims == ("alpha", "time")
    np.testing.assert_array_equal(together["attr_sharpness"], [0, 1, 2])


def test_labels_that_agree_are_no_attribute_any_more():
    together = nf.concat([make_dataset(alpha=1.0), make_dataset(alpha=1.0)], "alpha")
    np.testing.assert_array_equal(together["alpha"], [1.0, 1.0])
    assert "alpha" not in together.attrs


def test_targets_that_differ_are_kept_for_each():
    together = nf.concat([make_dataset(seed=0), make_dataset(seed=1)], "draw")
    np.testing.assert_array_equal(together["draw"], [0, 1])
    if "draw" in together["y_train"].dims:
        np.testing.assert_array_equal(
            together["y_train"].isel(draw=1), make_dataset(seed=1)["y_train"]
        )


def test_ensembles_one_run_and_flows_in_another_order():
    ensembles = [make_ensemble(3), make_ensemble(3)]
    assert nf.concat(ensembles, "alpha")["f_train"].dims[:2] == ("alpha", "seed")
    assert nf.concat([make_dataset()], "alpha").sizes["alpha"] == 1
    turned = make_dataset().isel(flow=[2, 0, 3, 1])
    together = nf.concat([make_dataset(), turned], "order")
    np.testing.assert_array_equal(
        together["f_train"].isel(order=0), together["f_train"].isel(order=1)
    )


def test_what_was_put_together_can_be_saved(tmp_path):
    given = runs()
    given[0].attrs |= {"stopped_by": "LossBelow", "reason": "event"}
    together = nf.concat(given, "alpha")
    together.to_zarr(tmp_path / "runs", zarr_format=2, consolidated=False)
    with xr.open_zarr(tmp_path / "runs", zarr_format=2, consolidated=False) as stored:
        xr.testing.assert_identical(stored.load(), together)


def kinds(dataset: xr.Dataset, *found: str) -> xr.Dataset:
    return dataset.assign_coords(flow_kind=("flow", list(found)))


A = make_dataset()
SHORT = A.isel(time=slice(5))
LATER = A.assign_coords(time=A["time"].values + 1000.0)


@pytest.mark.parametrize(
    ("given", "dim", "values", "said"),
    [
        ([], "a", None, "at least one run"),
        ([A, A], "time", None, "must name a new dimension, got 'time'"),
        ([A, A], "f_train", None, "must name a new dimension"),
        ([A, A], "", None, "must name a new dimension"),
        ([A, A], "a", [1, 2, 3], r"each of the 2 runs, got shape \[3\]"),
        ([A, A], "a", [[1], [2]], r"got shape \[2, 1\]"),
        (
            [A, A, without_flows(A, "linearized")],
            "a",
            None,
            "Run 2 has no flow 'linearized', which run 0 has.*same flows",
        ),
        ([without_flows(A, *FLOWS[1:]), A], "a", None, "Run 0 has no flow 'lin"),
        (
            [A, A.drop_vars("sharpness")],
            "a",
            None,
            r"Run 1 has no variable 'sharpness'.*same measures.*drop_vars\(\['sharpn",
        ),
        (
            [A.drop_vars("sharpness"), A.drop_vars("kernel_drift")],
            "a",
            None,
            "Run 1 has no variable 'kernel_drift'.*; run 0 has no variable 'sharpness'",
        ),
        ([A, SHORT], "a", None, "24 from t = 0.001 to 100, and 5 from .*sel.time="),
        ([A, LATER], "a", None, "other save times.*Simulate .* the same ts.$"),
        ([A, A.isel(time=slice(0))], "a", None, "and none"),
        ([A, A.isel(example=[0, 1])], "a", None, "along 'example': 6 and 2"),
        ([A, make_ensemble(2)], "a", None, "along 'seed': none and 2"),
        (
            [A, A.assign_coords(layer=["x", "y", "z"])],
            "a",
            None,
            r"other labels along 'layer'.*drop_dims\('layer'\)",
        ),
        (
            [kinds(A, *FLOWS), kinds(A, "descent", *FLOWS[1:])],
            "a",
            None,
            "'gradient' is a gradient flow in run 0 and a descent flow in run 1",
        ),
        (
            [A, A.assign(y_train=("example", A["y_train"].values[:, 0]))],
            "a",
            None,
            "'y_train' has dimensions",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_a_remedy(given, dim, values, said):
    with pytest.raises(ValueError, match=f"(?s){said}"):
        nf.concat(given, dim, values)


def test_a_path_is_no_run():
    with pytest.raises(ValueError, match=r"run 1 is 'runs/a'.*Trajectory\.load"):
        _dataset(1, "runs/a")


def test_the_remedies_named_are_right():
    times = np.intersect1d(A["time"], SHORT["time"])
    cut = [run.sel(time=times) for run in (A, SHORT)]
    assert nf.concat(cut, "a").sizes["time"] == 5
    other = A.assign_coords(layer=["x", "y", "z"])
    without = [run.drop_dims("layer") for run in (A, other)]
    assert "layer" not in nf.concat(without, "a").dims
