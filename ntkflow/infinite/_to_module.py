"""The finite network of which a stack of layers is the limit."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from ntkflow.infinite._checks import check_width
from ntkflow.infinite._dense import Dense
from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._sequential import Sequential
from ntkflow.infinite._wrappers import Antisymmetric, Scaled


def to_module(
    kernel: Sequential,
    in_shape: Sequence[int],
    *,
    width: int,
    out_size: int = 1,
    key: PRNGKeyArray,
) -> Callable[[Any], Any]:
    """A finite network whose kernels tend to those of the layers as it gets wider.

    Args:
        kernel: The layers, of which the last is a `Dense`.
        in_shape: Shape of one input, (C,) or (C, H, W) or alike.
        width: Units of the layers that do not say how many they have.
        out_size: Number of outputs; the last layer's own width is not used.
        key: Random key for the initial weights.

    Returns:
        An equinox module, called on one example, with outputs of shape [out_size].

    Raises:
        ValueError: A size is no positive integer, the last layer is no `Dense`, the
            layers do not end without positions, or one has no finite counterpart.

    Verified by:
    tests/infinite/test_width.py::test_networks_of_every_layer_approach_the_limit
    """
    check_width("to_module", width)
    check_width("to_module (out_size)", out_size)
    sizes = list(in_shape)
    if not sizes or any(isinstance(n, bool) or n < 1 for n in sizes):
        raise ValueError(
            "to_module: `in_shape` is the shape of one input, units first, such as "
            f"(64,) or (3, 32, 32), got {in_shape!r}."
        )
    module, out = _ending_with(kernel, out_size).build(tuple(sizes), width, key=key)
    if len(out) != 1:
        raise ValueError(
            f"to_module: the network ends with positions {out[1:]}: end it with "
            "Flatten or GlobalAvgPool, and a Dense."
        )
    return module


def _ending_with(layer: AbstractLayer, out_size: int) -> AbstractLayer:
    """The same layers, the last with so many units."""
    if isinstance(layer, Sequential):
        return Sequential([
            *layer.layers[:-1],
            _ending_with(layer.layers[-1], out_size),
        ])
    if isinstance(layer, Scaled):
        return Scaled(_ending_with(layer.layer, out_size), layer.alpha, layer.centered)
    if isinstance(layer, Antisymmetric):
        return Antisymmetric(_ending_with(layer.layer, out_size))
    if isinstance(layer, Dense):
        weights = layer.weights
        return Dense(
            weights.w_std,
            weights.b_std,
            weights.parameterization,
            out_size,
            use_bias=weights.use_bias,
            trainable=weights.trainable,
        )
    raise ValueError(
        f"to_module: the last layer must be a Dense, whose units are the outputs, got "
        f"{type(layer).__name__}. Append one, or call kernel.build(in_shape, width, "
        "key=key) for the network as it is."
    )
