"""From a description to the problem: its data, its network, its loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data as data_room, models as models_room
from ..data import Dataset
from ..problem import CrossEntropy, Decay, Hinge, Problem, SquaredError
from ._description import Data, Experiment, Model

_LOSSES = {
    "squared_error": SquaredError,
    "cross_entropy": CrossEntropy,
    "hinge": Hinge,
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
        try:
            return data_room.from_file(data.path, **common)
        except OSError as error:
            raise ValueError(
                f"data.path = {data.path!r} cannot be read: {error.strerror}. It is "
                "looked for from the directory in which the command is given."
            ) from error
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
    elif model.name == "neural_ode":
        network = _build_neural_ode(model, in_size, out_size, dtype)
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


def _build_neural_ode(
    model: Model, in_size: int, out_size: int, dtype: np.dtype
) -> models_room.NeuralODE:
    """A dense layer into the state, its equation in depth, and a dense readout."""
    keys = jax.random.split(jax.random.key(model.seed), 3)
    common: dict[str, Any] = {
        "parameterization": model.parameterization,
        "b_std": model.b_std,
        "dtype": jnp.dtype(dtype),
    }
    field = models_room.MLPField(
        model.state_size,
        model.width,
        model.depth,
        activation=model.activation,
        concat_time=model.concat_time,
        w_std=model.w_std,
        key=keys[0],
        **common,
    )
    rtol = model.depth_rtol
    return models_room.NeuralODE(
        field,
        encoder=models_room.Dense(in_size, model.state_size, key=keys[1], **common),
        readout=models_room.Dense(
            model.state_size, out_size, readout=True, key=keys[2], **common
        ),
        depth=models_room.Depth(
            model.t1, rtol=rtol, atol=rtol, max_steps=model.depth_max_steps
        ),
    )
