"""Kernels that are larger than memory: computed tile by tile into a store on disk.

Each tile is one part of a `Store`, checksummed and there in full or not at all, so a
computation that was killed goes on where it ended. Of a symmetric kernel only the
tiles on and above the diagonal are computed and kept.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ntkflow._progress import Progress
from ntkflow._sharding import without_explicit_axes
from ntkflow._types import KernelMethod, OutputLayout
from ntkflow.kernels._choose import check_method
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._example import Example, Traced, trace
from ntkflow.kernels._finite import check_finite
from ntkflow.kernels._functions import Apply, check_call, for_both, repeat_both
from ntkflow.kernels._inputs import check_bound
from ntkflow.kernels._layouts import check_outputs, find_layout
from ntkflow.models import partition
from ntkflow.storage import Store, fingerprint, program

DESCRIPTION = "kernel"


class StoredKernel:
    """A kernel on disk, read tile by tile.

    Args:
        path: The directory `stream` wrote.

    Attributes:
        shape: Shape of the whole kernel.
        outputs: Its layout.
        dtype: Its dtype.

    Raises:
        ValueError: If the directory holds no kernel, or an unfinished one.

    Verified by: tests/kernels/test_stream.py::test_streamed_kernel_is_the_kernel
    """

    def __init__(self, path: str | Path):
        self._store = Store(path)
        names = set(self._store.names())
        if DESCRIPTION not in names:
            raise ValueError(f"{path} holds no kernel: expected what `stream` writes.")
        about = json.loads(self._store.read(DESCRIPTION)[1]["about"])
        self.shape: tuple[int, ...] = tuple(about["shape"])
        self.outputs: OutputLayout = about["outputs"]
        self.dtype = np.dtype(about["dtype"])
        self._layout = find_layout(self.outputs)
        self._tile, self._counts = about["tile"], tuple(about["examples"])
        self._symmetric: bool = about["symmetric"]
        missing = len(set(_names(self._grid(), self._symmetric)) - names)
        if missing:
            raise ValueError(
                f"{path} is unfinished: {missing} tiles are missing. Run `stream` "
                "again with the same arguments, and it goes on where it ended."
            )

    def __repr__(self) -> str:
        return f"StoredKernel({str(self._store.path)!r}, shape={self.shape})"

    def tiles(self) -> Iterator[tuple[int, int, Float[np.ndarray, "..."]]]:
        """Every tile of the kernel, mirrored ones too, checksums verified.

        Yields:
            The first row example, the first column example, and the tile.
        """
        rows, columns = self._grid()
        for i in range(rows):
            for j in range(columns):
                yield i * self._tile, j * self._tile, self._read(i, j)

    def to_numpy(self) -> Float[np.ndarray, "..."]:
        """The whole kernel in memory.

        Returns:
            The kernel.
        """
        kernel = np.empty(self.shape, self.dtype)
        for row, column, tile in self.tiles():
            corner = self._layout.start(jnp.asarray(row), jnp.asarray(column))
            where = tuple(
                slice(int(first), int(first) + size)
                for first, size in zip(corner, tile.shape, strict=True)
            )
            kernel[where] = tile
        return kernel

    def mv(self, vector: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The kernel times a vector, one tile in memory at a time.

        Args:
            vector: [N2, K] for the full layout; [N2] for the trace; [N2, K] for the
                diagonal, where every output is multiplied by its own kernel.

        Returns:
            The product: [N1, K], or [N1] for the trace.
        """
        formula = {"full": "ikjl,jl->ik", "trace": "ij,j->i", "diagonal": "ijk,jk->ik"}
        vector = np.asarray(vector)
        result = np.zeros((self._counts[0], *vector.shape[1:]), self.dtype)
        for row, column, tile in self.tiles():
            part = vector[column : column + self._tile]
            found = np.einsum(formula[self.outputs], tile, part, optimize=True)
            result[row : row + self._tile] += found
        return result

    def _grid(self) -> tuple[int, int]:
        return tuple(math.ceil(count / self._tile) for count in self._counts)  # pyright: ignore[reportReturnType]

    def _read(self, i: int, j: int) -> Float[np.ndarray, "..."]:
        if self._symmetric and j < i:
            mirrored = jnp.asarray(self._store.read(_name(j, i))[0]["tile"])
            return np.asarray(self._layout.transpose(mirrored))
        return self._store.read(_name(i, j))[0]["tile"]


def stream(
    model: PyTree,
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    path: str | Path,
    outputs: OutputLayout = "trace",
    method: KernelMethod = "auto",
    max_bytes: int | None = None,
    apply: Apply | None = None,
    trainable: PyTree | None = None,
    progress: bool = True,
) -> StoredKernel:
    """Computes a kernel into a directory, in memory that does not grow with it.

    Called again with the same arguments after it was interrupted, it computes only the
    tiles that are missing.

    Args:
        model: As for `ntk`.
        x1: As for `ntk`.
        x2: As for `ntk`.
        path: The directory.
        outputs: As for `ntk`.
        method: As for `ntk`.
        max_bytes: Bound on the memory, that of the tile being computed included; by
            default `default_max_bytes()`.
        apply: As for `ntk`.
        trainable: As for `ntk`.
        progress: Whether to report on standard error.

    Returns:
        The kernel on disk.

    Raises:
        ValueError: As for `ntk`, or if the directory holds another kernel.

    Verified by: tests/kernels/test_stream.py::test_streamed_kernel_is_the_kernel,
        tests/kernels/test_stream.py::test_an_interrupted_stream_goes_on
    """  # ruff: ignore[docstring-extraneous-exception]
    layout = find_layout(outputs)
    check_method(method)
    bound = check_bound(max_bytes)
    call = check_call(apply, x1, x2)
    first, second = call.x1, call.x2
    params, static = partition(without_explicit_axes(model), trainable)
    example, other = repeat_both(*call.examples(static), params, first, second)
    traced, other_traced = for_both(trace, example, other, params, first, second)
    counts = (traced.n_outputs, (other_traced or traced).n_outputs)
    check_outputs(layout, counts)
    n1, n2 = first.shape[0], (first if second is None else second).shape[0]
    dtype = np.promote_types(traced.kernel_dtype, (other_traced or traced).kernel_dtype)
    each = layout.pairs(counts) * dtype.itemsize
    # The tile, its mirror image while it is written, and as much again to compute it.
    tile = max(1, min(max(n1, n2), math.isqrt(bound // (4 * each))))
    tile = math.ceil(max(n1, n2) / math.ceil(max(n1, n2) / tile))
    about = {
        "shape": layout.shape(n1, n2, counts),
        "outputs": outputs,
        "dtype": dtype.name,
        "tile": tile,
        "examples": (n1, n2),
        "symmetric": second is None,
        "max_bytes": bound,
    }
    computed = _programs(example, other, params, first, second)
    digest = fingerprint((params, first, second), computed, (method, about))
    store = Store(path)
    _claim(store, digest, about)
    done = set(store.names())
    grid = (math.ceil(n1 / tile), math.ceil(n2 / tile))
    names = _names(grid, second is None)
    with Progress(enabled=progress) as line:
        for count, (name, (i, j)) in enumerate(names.items()):
            line.update(f"tile {count + 1} of {len(names)}")
            if name in done:
                continue
            rows = first[i * tile : (i + 1) * tile]
            source = first if second is None else second
            columns = source[j * tile : (j + 1) * tile]
            (block,) = compute_kernels(
                example,
                params,
                rows,
                None if second is None and i == j else columns,
                outputs=outputs,
                method=method,
                max_bytes=max(1, bound // 2),
                by_leaf=False,
                other=other,
            )
            starts = (i * tile, j * tile)
            check_finite((block,), example, params, rows, columns, starts, other)
            store.write(name, {"tile": np.asarray(block)})
    return StoredKernel(path)


def _programs(
    example: Example, other: Example | None, params: PyTree, x1: Array, x2: Array | None
) -> str | tuple[str, str]:
    """What is computed, by its digest; of two functions both."""

    def of_one(one: Example, params: PyTree, x: Array) -> str:
        derivative = _derivative(one, trace(one, params, x))
        return program(derivative, params, x[0])

    rows, columns = for_both(of_one, example, other, params, x1, x2)
    return rows if columns is None else (rows, columns)


def _derivative(example: Example, traced: Traced) -> Callable[..., Any]:
    """The derivative by the parameters, in which rules of one's own count too."""

    def reverse(params: PyTree, x: Array) -> Any:
        f, pull = jax.vjp(lambda params: example(params, x), params)
        return f, pull(jnp.ones_like(f))

    def forward(params: PyTree, x: Array) -> Any:
        return jax.jvp(lambda params: example(params, x), (params,), (params,))

    return reverse if traced.modes.reverse else forward


def _claim(store: Store, digest: str, about: dict[str, Any]) -> None:
    if DESCRIPTION in store.names():
        if store.read(DESCRIPTION)[1]["fingerprint"] != digest:
            raise ValueError(
                f"{store.path} holds another kernel, or one computed with another "
                "max_bytes. Choose another path, or remove this one."
            )
        return
    store.write(DESCRIPTION, {}, {"fingerprint": digest, "about": json.dumps(about)})


def _name(i: int, j: int) -> str:
    return f"tile-{i:06d}-{j:06d}"


def _names(grid: tuple[int, int], symmetric: bool) -> dict[str, tuple[int, int]]:
    """Names of the tiles that are kept, and their places in the grid."""
    rows, columns = grid
    return {
        _name(i, j): (i, j)
        for i in range(rows)
        for j in range(i if symmetric else 0, columns)
    }
