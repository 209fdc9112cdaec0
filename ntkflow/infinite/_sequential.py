"""Layers one after the other, and the kernels of the network they are."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray, Shaped

from ntkflow.infinite._compute import Examples, Kernels, compute_kernels
from ntkflow.infinite._finite import Chain
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments
from ntkflow.kernels._inputs import check_bound, check_mesh, check_pair


@final
class Sequential(AbstractLayer):
    """Layers applied one after the other; called on examples, it gives their kernels.

    Args:
        layers: The layers, first to last. A `Sequential` is itself a layer.

    Raises:
        ValueError: There is no layer, or something that is none.

    Verified by:
    tests/infinite/test_sequential.py::test_deep_relu_kernel_is_the_recursion
    """

    layers: tuple[AbstractLayer, ...]

    def __init__(self, layers: Sequence[Any]):
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("Sequential needs at least one layer, such as Dense().")
        for layer in self.layers:
            if not isinstance(layer, AbstractLayer):
                raise ValueError(
                    f"Sequential takes layers of ntkflow.infinite, got {layer!r}. An "
                    "equinox module is read by ntkflow.infinite.from_module; a "
                    "function becomes a layer as Elementwise(function)."
                )

    def __call__(
        self,
        x1: Shaped[Array | np.ndarray, "..."],
        x2: Shaped[Array | np.ndarray, "..."] | None = None,
        *,
        mask1: Bool[Array | np.ndarray, "..."] | None = None,
        mask2: Bool[Array | np.ndarray, "..."] | None = None,
        channels_last: bool | None = None,
        max_bytes: int | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Kernels:
        """The NNGP kernel and the NTK between examples, per output.

        Works under `jit`, `vmap` and `grad`, also with respect to scales given as
        arrays.

        Args:
            x1: Examples along the rows, [N1, C] or, with positions, such as images
                have, [N1, C, ...].
            x2: Examples along the columns; by default those along the rows.
            mask1: Which positions [N1, ...] of the rows hold something, for inputs of
                different lengths; by default all.
            mask2: The same for the columns.
            channels_last: Whether inputs are [N, ..., C] instead of [N, C, ...]; masks
                are the same for both. None is no, with a warning for shapes that look
                like images whose channels are last.
            max_bytes: Bound on the working memory in bytes, the result apart; by
                default `ntkflow.kernels.default_max_bytes()`.
            mesh: Devices to divide the rows among.

        Returns:
            `.nngp` and `.ntk`, both [N1, N2].

        Raises:
            ValueError: The inputs do not go together or with the layers, a layer does
                not go with what precedes it, or `max_bytes` does not suffice.
        """
        bound = check_bound(max_bytes)
        check_mesh(mesh)
        first, second = check_pair(x1, x2)
        if channels_last is None:
            _warn_of_channels_last(first.shape)
        if channels_last and first.ndim > 2:
            first = jnp.moveaxis(first, -1, 1)
            second = None if second is None else jnp.moveaxis(second, -1, 1)
        n1 = first.shape[0]
        rows = _examples("1", first, mask1, 0)
        if second is None:
            if mask2 is not None:
                raise ValueError("mask2 was given without x2, whose mask it would be.")
            columns = None
        else:
            columns = _examples("2", second, mask2, n1)
            if (rows.mask is None) != (columns.mask is None):
                raise ValueError("Give both of mask1 and mask2, or neither.")
        return compute_kernels(self, rows, columns, max_bytes=bound, mesh=mesh)

    @property
    def is_linear(self) -> bool:
        """Whether every layer is."""
        return all(layer.is_linear for layer in self.layers)

    @property
    def is_random(self) -> bool:
        """Whether only linear layers follow the last random one."""
        for layer in reversed(self.layers):
            if layer.is_random:
                return True
            if not layer.is_linear:
                return False
        return False

    def needs_pairs(self, after: bool) -> bool:
        """Asks the layers, last to first.

        Args:
            after: Whether what follows asks for all pairs of positions.

        Returns:
            Whether the input must have them.
        """
        for layer in reversed(self.layers):
            after = layer.needs_pairs(after)
        return after

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the last layer's output.

        Args:
            moments: Those of the first layer's input.

        Returns:
            Those after all layers.
        """
        for layer in self.layers:
            moments = layer.propagate(moments)
        return moments

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite network.

        Args:
            shape: Units and positions of one input.
            width: Units of the layers that do not say how many they have.
            key: Random key.

        Returns:
            The network, and the shape of its output.
        """
        built = []
        for layer, its_key in zip(
            self.layers, jax.random.split(key, len(self.layers)), strict=True
        ):
            module, shape = layer.build(shape, width, key=its_key)
            built.append(module)
        return Chain(tuple(built)), shape


def _warn_of_channels_last(shape: Shape) -> None:
    """Warns where axes of at least five positions stand before one, three or four."""
    if len(shape) < 4 or shape[-1] not in {1, 3, 4} or min(shape[1:-1]) < 5:
        return
    *positions, channels = shape[1:]
    warnings.warn(
        f"x1 of shape {shape} looks like images whose channels are last. It is read "
        f"channels first: {positions[0]} channels, positions "
        f"{(*positions[1:], channels)}. Pass channels_last=True if they are last, "
        "channels_last=False if they are first.",
        stacklevel=3,
    )


def _examples(
    side: str, x: Array, mask: Array | np.ndarray | None, start: int
) -> Examples:
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x{side} must be floating-point numbers of shape [N, C] or [N, C, ...], "
            f"examples first, got {x.dtype} of shape {x.shape}. Integers go through "
            "x.astype(float); an image without channels is x[:, None]."
        )
    if mask is not None and mask.shape != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"mask{side} must have one entry for each example and position, shape "
            f"{(x.shape[0], *x.shape[2:])}, got {mask.shape}."
        )
    if mask is not None and mask.dtype != bool:
        raise ValueError(
            f"mask{side} must be boolean, true where there is something, got "
            f"{mask.dtype}. One that is added to scores is mask == 0."
        )
    if 0 in x.shape:
        raise ValueError(f"x{side} is empty, of shape {x.shape}.")
    held = None if mask is None else jnp.asarray(mask)
    return Examples(x, held, start + jnp.arange(x.shape[0], dtype=jnp.int32))
