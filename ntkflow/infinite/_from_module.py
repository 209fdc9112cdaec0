"""The limit of a finite module, read off its layers."""

from collections.abc import Callable, Sequence
from typing import Any

from ntkflow.infinite._readers import read
from ntkflow.infinite._reading import Reading
from ntkflow.infinite._sequential import Sequential


def from_module(
    model: Callable[[Any], Any], x_shape: Sequence[int] | None = None
) -> Sequential:
    """The layers at infinite width of an equinox module.

    Reads `equinox.nn`'s Sequential, MLP, Linear, Conv, LayerNorm without parameters,
    AvgPool, AdaptiveAvgPool to one position, Dropout, Identity and Lambda; elementwise
    functions, ravel, and the mean or sum over positions; and `ntkflow.models`' MLP,
    CNN, ResidualMLP, DeepLinear, Dense, Conv, Scaled, Antisymmetric and Frozen.

    The layers are those of the module as it is initialized: of the weights only the
    variances enter. Those of `ntkflow.models` are as the model records them, those of
    `equinox.nn` uniform with variance 1/(3 fan_in), as it draws them; an array that
    is not (but for a bias of zeros) is refused. Uniform weights make the first
    layer's units Gaussian only as inputs have many entries of like size.

    Layers of `equinox.nn` are in the standard parameterization, whose NTK grows with
    the width: the kernel is the leading order at the widths of the module, all of
    which are read. Dropout draws a mask for each example, if not in inference mode.

    Args:
        model: The module, or a function, called on one example.
        x_shape: Shape of one example, units first; needed where a function in front of
            the first layer, or behind a pooling, depends on it.

    Returns:
        The layers.

    Raises:
        ValueError: A part of the module cannot be read; the message names it, with the
            reason and what to do.

    Source: Lee et al. (2019), Sohl-Dickstein et al. (2020) for the parameterizations.

    Verified by:
    tests/infinite/test_from_module.py::test_models_are_read_as_their_layers,
    tests/infinite/test_from_module.py::test_equinox_modules_are_read_as_their_layers,
    tests/infinite/test_from_module.py::test_kernels_are_those_of_the_module
    """
    shape = None if x_shape is None else tuple(x_shape)
    if shape is not None and not all(isinstance(n, int) and n > 0 for n in shape[:1]):
        raise ValueError(
            "from_module: x_shape is the shape of one example, units first, such as "
            f"(3, 32, 32), got {x_shape!r}."
        )
    layers = read(model, "", Reading(shape))
    if not layers:
        raise ValueError(
            "from_module: the model is the identity, which has no kernel of its own."
        )
    return Sequential(layers)
