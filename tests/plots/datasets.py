"""Datasets as `simulate` writes them, made of formulas: no network is trained."""

from typing import Any

import numpy as np
import xarray as xr

T, N, NT, K, M = 24, 6, 5, 3, 4
FLOWS = ("gradient", "residual_evolving", "residual_frozen", "linearized")
LAYERS = ("layers[0].weight", "layers[0].bias", "layers[1].weight")
LAWS = ("layers[0] to layers[1]", "layers[1] to layers[2]")
TIME = {"long_name": "training time", "units": "step × learning rate"}
ATTRS: dict[str, Any] = {
    "time_scale": 1.0,
    "reduction": "sum",
    "loss": "SquaredError()",
    "decay": "none",
    "model": "MLP(\n  layers=(Dense(weight=f64[4,3], bias=None),)\n)",
    "dtype": "float64",
    "rtol": 1e-6,
    "atol": 1e-8,
    "solver": "gradient: Tsit5",
    "measured_on": "gradient",
    "measures": "KernelDrift, Alignment",
    "n_examples": N,
    "n_outputs": K,
    "n_params": 1234,
    "python": "3.11.2",
    "platform": "Linux",
    "version_jax": "0.10.0",
    "device": "cpu: cpu",
    "git_revision": "abc1234",
    "reason": "completed",
    "t_reached": 100.0,
    "seconds": 1.5,
    "steps": 321,
}


def _outputs(
    times: np.ndarray, y: np.ndarray, f0: np.ndarray, bend: float
) -> dict[str, np.ndarray]:
    """Outputs of every flow: exponential approach to y, at rates of their own."""
    rates = np.geomspace(5.0, 0.05, y.size).reshape(y.shape)

    def approach(factor: float) -> np.ndarray:
        left = np.exp(-factor * rates[None] * times[:, None, None])
        return y[None] + (f0 - y)[None] * left

    network, constant = approach(1.0 + bend), approach(1.0)
    wiggle = np.sin(times)[:, None, None] * np.ones_like(network)
    return {
        "gradient": network,
        "residual_evolving": network + 1e-7 * wiggle,
        "residual_frozen": constant,
        "linearized": constant - 2e-8 * wiggle,
    }


def _measures(times: np.ndarray, bend: float) -> dict[str, Any]:
    """Every default measure, as (dims, values, long_name, units)."""
    s = times / (1.0 + times)
    modes = np.arange(1, M + 1)
    rates = 10.0 / modes**2
    start = np.array([0.5, 3.0, 0.1, 1.0])
    predicted = start * np.exp(-rates[None] * times[:, None])
    time, mode = ("time",), ("time", "mode")
    spectrum = rates[None] * (1 + bend * s[:, None] * modes[None])
    return {
        "kernel_drift": (time, bend * s, "relative change of the kernel", "1"),
        "kernel_distance": (time, 0.1 * bend * s**2, "distance up to scale", "1"),
        "kernel_velocity": (time, bend / (1 + times) ** 2, "relative speed", "1/time"),
        "alignment": (time, 0.12 + 0.3 * bend * s, "alignment with the targets", "1"),
        "alignment_centered": (time, 0.1 + 0.2 * bend * s, "centered alignment", "1"),
        "spectrum": (mode, spectrum, "eigenvalues of the kernel", "1"),
        "effective_rank": (time, 8.0 - 4 * bend * s, "effective rank", "1"),
        "mode_residual_initial": (mode, predicted * (1 - 0.1 * s[:, None]), "r", "1"),
        "mode_rate_initial": (("mode",), rates, "initial kernel's rates", "1/time"),
        "mode_residual_predicted": (mode, predicted, "predicted residual", "1"),
        "parameter_distance": (time, np.sqrt(14) * s, "distance from θ₀", "1"),
        "parameter_distance_layer": (
            ("time", "layer"),
            s[:, None] * np.array([1.0, 2.0, 3.0])[None],
            "distance of each parameter array from θ₀",
            "1",
        ),
        "parameter_norm_initial": (("layer",), np.array([10.0, 0.0, 5.0]), "norm", "1"),
        "linearization_gap": (time, 0.5 * bend * s, "gap, training set", "1"),
        "linearization_gap_test": (time, 0.7 * bend * s, "gap, test set", "1"),
        "kernel_step_distance": (time, 0.1 * bend * s * (1 - s), "step", "1"),
        "kernel_step_velocity": (time, bend * (1 - s), "step per time", "1/time"),
        "kernel_regression_accuracy": (time, 0.6 + 0.3 * s, "accuracy", "1"),
        "kernel_regression_error": (time, 0.9 - 0.3 * s, "error", "1"),
        "sharpness": (time, 4.0 + 3 * s, "largest eigenvalue", "1/time"),
        "sharpness_error": (time, 1e-3 * (4.0 + 3 * s), "its error", "1/time"),
        "energy_defect": (time, 1e-7 * s, "defect of the energy identity", "1"),
        "conserved_drift": (
            ("time", "law"),
            s[:, None] * np.array([1e-8, 3e-8])[None],
            "relative change of conserved quantities",
            "1",
        ),
    }


def make_dataset(
    *,
    times: np.ndarray | None = None,
    flows: tuple[str, ...] = FLOWS,
    bend: float = 0.4,
    seed: int = 0,
    **attrs: Any,
) -> xr.Dataset:
    """A classification run of four flows with all default measures."""
    times = np.geomspace(1e-3, 1e2, T) if times is None else times
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {}
    for split, example, n in (("train", "example", N), ("test", "example_test", NT)):
        labels = np.arange(n) % K
        y = np.eye(K)[labels]
        every = _outputs(times, y, 0.3 * rng.normal(size=y.shape), bend)
        # Flows of the network with other names share its outputs.
        f = np.stack([every.get(flow, every["gradient"]) for flow in flows])
        right = f.argmax(-1) == labels
        flow_time = ("flow", "time")
        data[f"f_{split}"] = ((*flow_time, example, "output"), f, {"units": "output"})
        data[f"loss_{split}"] = (flow_time, 0.5 * ((f - y) ** 2).sum((2, 3)))
        data[f"accuracy_{split}"] = (flow_time, right.mean(-1))
        data[f"y_{split}"] = ((example, "output"), y)
    for name, (dims, values, words, units) in _measures(times, bend).items():
        data[name] = (dims, values, {"long_name": words, "units": units})
    dataset = xr.Dataset(data, attrs={**ATTRS, **attrs})
    coords = {"layer": list(LAYERS), "law": list(LAWS), "flow": list(flows)}
    return dataset.assign_coords(time=("time", times, TIME), **coords)


def with_trace(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with numbers of its own for the trace kernel."""
    names = ("kernel_drift", "kernel_distance", "kernel_velocity", "alignment")
    names += ("alignment_centered", "effective_rank", "kernel_step_distance")
    names += ("kernel_regression_accuracy",)
    traces = {f"{name}_trace": 0.7 * dataset[name] for name in names}
    spectrum = (3 * dataset["spectrum"]).rename(mode="mode_trace")
    return dataset.assign({**traces, "spectrum_trace": spectrum})


def make_ensemble(count: int = 5) -> xr.Dataset:
    """Runs that differ in outputs and in how far the kernel moves, side by side."""
    runs = [make_dataset(bend=0.2 + 0.1 * i, seed=i) for i in range(count)]
    fixed = ["y_train", "y_test"]
    moving = xr.concat([run.drop_vars(fixed) for run in runs], dim="seed")
    return moving.assign({name: runs[0][name] for name in fixed}).assign_coords(
        seed=np.arange(count)
    )


def make_regression(**attrs: Any) -> xr.Dataset:
    """One output, and so no accuracy."""
    full = make_dataset(n_outputs=1, **attrs).isel(output=[0])
    classes = ["accuracy_train", "accuracy_test", "kernel_regression_accuracy"]
    return full.drop_vars(classes)


def without_flows(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """The dataset of a run that had not these flows."""
    return dataset.drop_sel(flow=list(names))
