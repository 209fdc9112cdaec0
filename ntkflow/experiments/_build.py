"""From a description to the objects it names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data as data_room, measures as measures_room, models as models_room
from ..data import Dataset
from ..flows import AbstractFlow, Gradient, Linearized, Momentum, Residual
from ..measures import AbstractMeasure
from ..problem import CrossEntropy, Decay, Hinge, Problem, SquaredError
from ._description import Data, Experiment, Model, Simulation

_LOSSES = {
    "squared_error": SquaredError,
    "cross_entropy": CrossEntropy,
    "hinge": Hinge,
}

_TRACE = "_trace"
"""What ends the name of a measure of the trace kernel, the sum over outputs."""

_MEASURES: dict[str, Callable[..., AbstractMeasure]] = {
    "kernel_drift": measures_room.KernelDrift,
    "kernel_distance": measures_room.KernelDistance,
    "kernel_velocity": measures_room.KernelVelocity,
    "alignment": measures_room.Alignment,
    "spectrum": measures_room.Spectrum,
    "effective_rank": measures_room.EffectiveRank,
    "modes": measures_room.Modes,
    "parameter_distance": measures_room.ParameterDistance,
    "linearization_gap": measures_room.LinearizationGap,
    "energy_defect": measures_room.EnergyDefect,
    "conservation": measures_room.Conservation,
    "lambda_min": measures_room.LambdaMin,
    "kernel_step": measures_room.KernelStep,
    "kernel_regression": measures_room.KernelRegression,
    "sharpness": measures_room.Sharpness,
}


def build_problem(experiment: Experiment) -> Problem:
    """Loads the data, makes the network, and poses the problem.

    Args:
        experiment: The description.

    Returns:
        The problem.
    """
    dtype = np.dtype(experiment.precision)
    data = _build_data(experiment.data, experiment.model, dtype)
    model = _build_model(experiment.model, data, dtype)
    training = experiment.training
    decay = None
    if training.decay > 0:
        decay = Decay(training.decay, training.decay_towards)
    return Problem(
        model,
        data.x_train,
        data.y_train,
        x_test=data.x_test,
        y_test=data.y_test,
        loss=_LOSSES[training.loss](),
        reduction=training.reduction,
        decay=decay,
    )


def build_flows(simulation: Simulation) -> list[AbstractFlow]:
    """Makes the flows.

    Args:
        simulation: The description.

    Returns:
        One flow a name.
    """
    make = {
        "gradient": Gradient,
        "residual_evolving": lambda: Residual("evolving"),
        "residual_frozen": lambda: Residual("frozen"),
        "linearized": Linearized,
        "momentum": lambda: Momentum(simulation.damping),
    }
    return [make[name]() for name in simulation.flows]


def build_measures(simulation: Simulation) -> list[AbstractMeasure] | None:
    """Makes the measures.

    Args:
        simulation: The description.

    Returns:
        One measure a name; None for the default ones.
    """
    if simulation.measures == "default":
        return None
    return [_build_measure(name) for name in simulation.measures]


def _build_measure(name: str) -> AbstractMeasure:
    if name.endswith(_TRACE):
        return _MEASURES[name.removesuffix(_TRACE)](outputs="trace")
    return _MEASURES[name]()


def _build_data(data: Data, model: Model, dtype: np.dtype) -> Dataset:
    if data.name == "linear_teacher":
        return _linear_teacher(data, dtype)
    common: dict[str, Any] = {
        "n_train": data.n_train,
        "n_test": data.n_test,
        "seed": data.seed,
        "targets": data.targets,
        "flatten": model.name != "cnn",
        "dtype": dtype,
    }
    if data.classes is not None:
        common["classes"] = data.classes
    if data.name == "file":
        assert data.path is not None
        return data_room.from_file(data.path, **common)
    return {"digits": data_room.digits, "mnist": data_room.mnist}[data.name](**common)


def _linear_teacher(data: Data, dtype: np.dtype) -> Dataset:
    """Inputs with XXᵀ = I, targets Y = U s Vᵀ X: the setting of Saxe et al. (2014)."""
    rng = np.random.default_rng(data.seed)
    if data.n_train < data.in_size:
        raise ValueError(
            f"data.n_train = {data.n_train} inputs of {data.in_size} numbers cannot be "
            "whitened: take at least as many examples as inputs."
        )

    def orthonormal(rows: int, columns: int) -> np.ndarray:
        return np.linalg.qr(rng.standard_normal((rows, columns)))[0]

    rank = len(data.strengths)
    left, right = orthonormal(data.out_size, rank), orthonormal(data.in_size, rank)
    teacher = left @ np.diag(data.strengths) @ right.T
    x = orthonormal(data.n_train, data.in_size)
    x_test = rng.standard_normal((data.n_test, data.in_size)) / np.sqrt(data.n_train)
    # As they are: standardized targets would have other singular values.
    tested = data.n_test > 0
    return Dataset(
        x_train=jnp.asarray(x, dtype),
        y_train=jnp.asarray(x @ teacher.T, dtype),
        x_test=jnp.asarray(x_test, dtype) if tested else None,
        y_test=jnp.asarray(x_test @ teacher.T, dtype) if tested else None,
        labels_train=None,
        labels_test=None,
        x_mean=jnp.zeros(data.in_size, dtype),
        x_std=jnp.ones((), dtype),
        y_mean=None,
        y_std=None,
        classes=None,
        name="linear_teacher",
    )


def _build_model(model: Model, data: Dataset, dtype: np.dtype) -> Any:
    key = jax.random.key(model.seed)
    labels = data.y_train.ndim == 1
    out_size = len(data.classes or ()) if labels else data.y_train.shape[1]
    common: dict[str, Any] = {
        "width": model.width,
        "depth": model.depth,
        "parameterization": model.parameterization,
        "key": key,
        "dtype": jnp.dtype(dtype),
    }
    spread: dict[str, Any] = {} if model.w_std is None else {"w_std": model.w_std}
    in_size = data.x_train.shape[-1]
    if model.name == "deep_linear":
        network = models_room.DeepLinear(in_size, out_size, **common, **spread)
    elif model.name == "cnn":
        common["channels"] = common.pop("width")
        network = models_room.CNN(
            data.x_train.shape[1:],
            out_size,
            activation=model.activation,
            b_std=model.b_std,
            **common,
            **spread,
        )
    else:
        make = {"mlp": models_room.MLP, "residual_mlp": models_room.ResidualMLP}
        network = make[model.name](
            in_size,
            out_size,
            activation=model.activation,
            b_std=model.b_std,
            **common,
            **spread,
        )
    if model.antisymmetric:
        network = models_room.Antisymmetric(network)
    if model.alpha != 1:
        network = models_room.Scaled(network, model.alpha, centered=model.centered)
    return network
