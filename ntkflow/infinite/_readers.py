"""How each kind of module is read: one function a kind, found by its exact type.

A subclass may compute anything, so that it is not taken for its base.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ntkflow import models
from ntkflow._types import Padding
from ntkflow.infinite._conv import Conv
from ntkflow.infinite._dense import Dense
from ntkflow.infinite._dropout import Dropout
from ntkflow.infinite._finite import AtPositions, Chain, Pointwise
from ntkflow.infinite._flatten import Flatten
from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._layer_norm import LayerNorm
from ntkflow.infinite._pooling import AvgPool, GlobalAvgPool
from ntkflow.infinite._read_functions import read_function
from ntkflow.infinite._reading import (
    Reading,
    drawn_std,
    inside,
    is_abstract,
    refusal,
)
from ntkflow.infinite._refusals import refuse
from ntkflow.infinite._residual import Residual
from ntkflow.infinite._sequential import Sequential
from ntkflow.infinite._wrappers import Antisymmetric, Scaled

Layers = list[AbstractLayer]


def read(module: Any, path: str, reading: Reading) -> Layers:
    """The layers of a module.

    Args:
        module: The module.
        path: Where it is; empty for the whole.
        reading: What is known at this place, brought up to date.

    Returns:
        The layers, first to last.

    Raises:
        ValueError: The module, or one in it, cannot be read.
    """  # ruff: ignore[docstring-extraneous-exception]
    if type(module) in READERS:
        return READERS[type(module)](module, path, reading)
    refuse(module, path)
    return read_function(module, path, reading)


def _each(modules: Any, path: str, reading: Reading) -> Layers:
    return [
        layer
        for i, module in enumerate(modules)
        for layer in read(module, f"{path}[{i}]", reading)
    ]


def _read_sequence(module: Any, path: str, reading: Reading) -> Layers:
    return _each(module.layers, inside(path, "layers"), reading)


def _read_identity(module: eqx.nn.Identity, path: str, reading: Reading) -> Layers:
    return []


def _read_lambda(module: eqx.nn.Lambda, path: str, reading: Reading) -> Layers:
    return read(module.fn, inside(path, "fn"), reading)


def _read_pointwise(module: Pointwise, path: str, reading: Reading) -> Layers:
    return read_function(module.function, path, reading)


def _read_at_positions(module: AtPositions, path: str, reading: Reading) -> Layers:
    rank, shape = reading.rank, reading.shape
    reading.rank, reading.shape = 0, None
    layers = read(module.layer, inside(path, "layer"), reading)
    reading.rank, reading.shape = rank, shape
    if rank is not None:
        reading.advance(module, path, rank)
    return layers


def _read_linear(module: eqx.nn.Linear, path: str, reading: Reading) -> Layers:
    if module.in_features == "scalar":
        raise refusal(
            path, module, "its input has no axis of units", "Take in_features=1"
        )
    reading.use(module.weight, path)
    dense = _drawn_dense(module.weight, module.bias, path, reading)
    _meets_vectors(module, path, reading)
    return [dense]


def _drawn_dense(weight: Any, bias: Any, path: str, reading: Reading) -> Dense:
    units, fan_in = weight.shape
    return Dense(
        drawn_std(weight, fan_in, path, "weight"),
        _bias_std(bias, fan_in, path),
        "standard",
        units,
        use_bias=bias is not None,
        trainable=reading.trainable,
    )


def _bias_std(bias: Any, fan_in: int, path: str) -> float:
    if bias is None:
        return 0.0
    return drawn_std(bias, fan_in, path, "bias") / math.sqrt(fan_in)


def _meets_vectors(module: Any, path: str, reading: Reading) -> None:
    if reading.rank:
        raise refusal(
            path,
            module,
            f"it takes vectors, and meets units with {reading.rank} axes of positions",
            "Put a ravel or a mean over positions in front of it",
        )
    reading.advance(module, path, 0)


def _read_eqx_mlp(module: eqx.nn.MLP, path: str, reading: Reading) -> Layers:
    if module.in_size == "scalar":
        raise refusal(path, module, "its input has no axis of units", "Take in_size=1")
    found: Layers = []
    for i, layer in enumerate(module.layers):
        where = f"{inside(path, 'layers')}[{i}]"
        reading.use(layer.weight, where)
        for weight, bias in _unstacked(layer):
            if found:
                found += read_function(
                    module.activation, inside(path, "activation"), reading
                )
            found.append(_drawn_dense(weight, bias, where, reading))
    _meets_vectors(module, path, reading)
    final = inside(path, "final_activation")
    return found + read_function(module.final_activation, final, reading)


def _unstacked(layer: eqx.nn.Linear) -> list[tuple[Any, Any]]:
    """Weights and bias; of each layer, where several are one for a scan."""
    if layer.weight.ndim == 2:
        return [(layer.weight, layer.bias)]

    def row(array: Any, i: int) -> Any:
        if is_abstract(array):
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        return np.asarray(array)[i]

    return [
        (row(layer.weight, i), None if layer.bias is None else row(layer.bias, i))
        for i in range(layer.weight.shape[0])
    ]


def _read_eqx_conv(module: eqx.nn.Conv, path: str, reading: Reading) -> Layers:
    if module.groups != 1:
        raise refusal(
            path,
            module,
            f"it has {module.groups} groups of channels",
            "Take groups=1",
        )
    reading.use(module.weight, path)
    fan_in = module.in_channels * math.prod(module.kernel_size)
    layer = Conv(
        module.kernel_size,
        module.stride,
        _padding(module, path, module.dilation, module.padding_mode),
        module.dilation,
        w_std=drawn_std(module.weight, fan_in, path, "weight"),
        b_std=_bias_std(module.bias, fan_in, path),
        parameterization="standard",
        width=module.out_channels,
        use_bias=module.bias is not None,
        trainable=reading.trainable,
    )
    reading.advance(module, path, module.num_spatial_dims)
    return [layer]


def _padding(
    module: Any, path: str, dilation: tuple[int, ...], mode: str = "ZEROS"
) -> Padding:
    """The name of a padding given by numbers."""
    padding = module.padding
    if padding == "VALID" or (
        not isinstance(padding, str) and not any(map(any, padding))
    ):
        return "VALID"
    same = padding == "SAME"
    if not isinstance(padding, str) and all(step == 1 for step in module.stride):
        added = [(k - 1) * d for k, d in zip(module.kernel_size, dilation, strict=True)]
        same = all(
            tuple(ends) == (total // 2, total - total // 2)
            for ends, total in zip(padding, added, strict=True)
        )
    if not same or mode not in ("ZEROS", "CIRCULAR"):
        raise refusal(
            path,
            module,
            f"padding={padding!r} with stride {module.stride} and mode {mode} is none "
            "of those of ntkflow.infinite",
            "Take padding 'SAME' or 'VALID', zeros or circular",
        )
    return "SAME" if mode == "ZEROS" else "CIRCULAR"


def _read_average(module: Any, path: str, reading: Reading) -> Layers:
    if module.use_ceil:
        raise refusal(
            path, module, "use_ceil pads by the input's size", "Take use_ceil=False"
        )
    ones = (1,) * module.num_spatial_dims
    layer = AvgPool(module.kernel_size, module.stride, _padding(module, path, ones))
    reading.advance(module, path, module.num_spatial_dims)
    return [layer]


def _read_adaptive(module: Any, path: str, reading: Reading) -> Layers:
    if any(size != 1 for size in module.target_shape):
        raise refusal(
            path,
            module,
            f"its windows for target_shape={module.target_shape} differ in size",
            "Take target_shape=1, or AvgPool with windows side by side",
        )
    reading.advance(module, path, len(module.target_shape))
    # The layer leaves no positions, the module axes of length one.
    reading.single = True
    return [GlobalAvgPool()]


def _read_layer_norm(module: eqx.nn.LayerNorm, path: str, reading: Reading) -> Layers:
    if reading.trainable and (module.weight is not None or module.bias is not None):
        raise refusal(
            path,
            module,
            "its gain and offset are trained, and a unit's gain adds to the NTK what "
            "goes with that unit, for which the limit's duals have no place",
            "Take use_weight=False and use_bias=False, or wrap it in "
            "ntkflow.models.Frozen",
        )
    if module.weight is not None and not bool((module.weight == 1).all()):
        raise refusal(path, module, "its gain is not 1", "Take it as it is made")
    if module.bias is not None and bool(module.bias.any()):
        raise refusal(path, module, "its offset is not 0", "Take it as it is made")
    return [LayerNorm(len(module.shape) > 1, module.eps)]


def _read_dropout(module: eqx.nn.Dropout, path: str, reading: Reading) -> Layers:
    if module.inference or module.p == 0:
        return []
    return [Dropout(1 - float(module.p))]


def _read_dense(module: models.Dense, path: str, reading: Reading) -> Layers:
    reading.use(module.weight, path)
    _meets_vectors(module, path, reading)
    return [
        Dense(
            module.w_std,
            module.b_std,
            # Only a readout is divided by its fan-in.
            module.parameterization
            if module.readout or module.parameterization == "standard"
            else "ntk",
            module.out_size,
            use_bias=module.bias is not None,
            trainable=reading.trainable,
        )
    ]


def _read_conv(module: models.Conv, path: str, reading: Reading) -> Layers:
    reading.use(module.weight, path)
    reading.advance(module, path, 2)
    standard = module.parameterization == "standard"
    return [
        Conv(
            module.kernel_size,
            w_std=module.w_std,
            b_std=module.b_std,
            parameterization="standard" if standard else "ntk",
            width=module.out_channels,
            use_bias=module.bias is not None,
            trainable=reading.trainable,
        )
    ]


def _read_mlp(module: models.MLP, path: str, reading: Reading) -> Layers:
    found: Layers = []
    for i, layer in enumerate(module.layers):
        if i:
            found += read_function(
                module.activation, inside(path, "activation"), reading
            )
        found += read(layer, f"{inside(path, 'layers')}[{i}]", reading)
    return found


def _read_cnn(module: models.CNN, path: str, reading: Reading) -> Layers:
    found: Layers = []
    reading.rank, reading.shape = 2, module.in_shape
    for i, layer in enumerate(module.layers):
        found += read(layer, f"{inside(path, 'layers')}[{i}]", reading)
        found += read_function(module.activation, inside(path, "activation"), reading)
    found.append(Flatten() if module.pooling == "flatten" else GlobalAvgPool())
    reading.rank, reading.shape = 0, None
    return found + read(module.readout, inside(path, "readout"), reading)


def _read_residual_mlp(
    module: models.ResidualMLP, path: str, reading: Reading
) -> Layers:
    found = read(module.embedding, inside(path, "embedding"), reading)
    for i, layer in enumerate(module.branches):
        branch = [
            *read_function(module.activation, inside(path, "activation"), reading),
            *read(layer, f"{inside(path, 'branches')}[{i}]", reading),
        ]
        found.append(Residual(Sequential(branch), module.branch_scale))
    return found + read(module.readout, inside(path, "readout"), reading)


def _read_scaled(module: models.Scaled, path: str, reading: Reading) -> Layers:
    # The copy behind f₀ is the same network at its start, not one more.
    inner = Sequential(read(module.model, inside(path, "model"), reading))
    return [Scaled(inner, float(module.alpha), module.initial is not None)]


def _read_antisymmetric(
    module: models.Antisymmetric, path: str, reading: Reading
) -> Layers:
    # The two halves start as one.
    return [Antisymmetric(Sequential(read(module.a, inside(path, "a"), reading)))]


def _read_frozen(module: models.Frozen, path: str, reading: Reading) -> Layers:
    before, reading.trainable = reading.trainable, False
    layers = read(module.tree, inside(path, "tree"), reading)
    reading.trainable = before
    return layers


READERS: dict[type, Callable[[Any, str, Reading], Layers]] = {
    Chain: _read_sequence,
    AtPositions: _read_at_positions,
    Pointwise: _read_pointwise,
    models.Antisymmetric: _read_antisymmetric,
    models.CNN: _read_cnn,
    models.Conv: _read_conv,
    models.DeepLinear: _read_sequence,
    models.Dense: _read_dense,
    models.Frozen: _read_frozen,
    models.MLP: _read_mlp,
    models.ResidualMLP: _read_residual_mlp,
    models.Scaled: _read_scaled,
    eqx.nn.AdaptiveAvgPool1d: _read_adaptive,
    eqx.nn.AdaptiveAvgPool2d: _read_adaptive,
    eqx.nn.AdaptiveAvgPool3d: _read_adaptive,
    eqx.nn.AvgPool1d: _read_average,
    eqx.nn.AvgPool2d: _read_average,
    eqx.nn.AvgPool3d: _read_average,
    eqx.nn.Conv: _read_eqx_conv,
    eqx.nn.Conv1d: _read_eqx_conv,
    eqx.nn.Conv2d: _read_eqx_conv,
    eqx.nn.Conv3d: _read_eqx_conv,
    eqx.nn.Dropout: _read_dropout,
    eqx.nn.Identity: _read_identity,
    eqx.nn.Lambda: _read_lambda,
    eqx.nn.LayerNorm: _read_layer_norm,
    eqx.nn.Linear: _read_linear,
    eqx.nn.MLP: _read_eqx_mlp,
    eqx.nn.Sequential: _read_sequence,
}
"""By type, how it is read."""
