"""What a kernel will cost, and why it is computed the way it is."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, PyTree, Shaped

from ntkflow._sharding import without_explicit_axes
from ntkflow._types import KernelMethod, OutputLayout
from ntkflow.kernels._choose import (
    cheapest,
    check_method,
    check_modes,
    estimate_all,
)
from ntkflow.kernels._compute import request_of
from ntkflow.kernels._functions import Apply, check_call, repeat_both
from ntkflow.kernels._inputs import check_bound
from ntkflow.kernels._layouts import find_layout
from ntkflow.kernels._methods import Estimate, LeafPlan
from ntkflow.models import named_leaves, partition


class Plan(NamedTuple):
    """How `ntk` computes a kernel; `print` it to read it.

    Everything is an estimate from shapes alone, so the same on every machine with the
    same memory bound. Operations count a multiply-add as two.

    Attributes:
        method: The method.
        shape: Shape of the kernel.
        dtype: Dtype of the kernel.
        max_bytes: Bound on the working memory.
        result_bytes: Bytes of the kernel itself, which the bound does not include.
        leaves: How each trained leaf enters, by its path; none for vector products.
        estimates: What every method would need that the model's derivatives allow.
    """

    method: str
    shape: tuple[int, ...]
    dtype: np.dtype
    max_bytes: int
    result_bytes: int
    leaves: dict[str, LeafPlan]
    estimates: dict[str, Estimate]

    @property
    def flops(self) -> float:
        """Operations of the method chosen."""
        return self.estimates[self.method].flops

    def floor(self, flops_per_second: float | int) -> float:
        """The least time the kernel can take.

        Args:
            flops_per_second: What matrix products reach on the machine.

        Returns:
            Seconds, if every operation ran at that speed.
        """
        return self.flops / flops_per_second

    def __str__(self) -> str:
        chosen = self.estimates[self.method]
        lines = [
            f"Kernel {list(self.shape)} {self.dtype}, {_bytes(self.result_bytes)}, by "
            f"{self.method}: {_flops(chosen.flops)}, of them {_flops(chosen.passes)} "
            "through the module.",
        ]
        others = [
            f"{name} {_flops(other.flops)}"
            + ("" if other.least <= self.max_bytes else " (does not fit)")
            for name, other in self.estimates.items()
            if name != self.method
        ]
        if others:
            lines.append(f"Instead of: {', '.join(others)}.")
        lines.append(
            f"Working memory: at most {_bytes(self.max_bytes)}; the smallest tile "
            f"takes {_bytes(chosen.least)}."
        )
        if chosen.tiling is not None:
            tiling = chosen.tiling
            held = "are kept" if tiling.kept else "are made again for every tile"
            lines.append(
                f"Tiles of {tiling.rows} by {tiling.columns} examples; what examples "
                f"are reduced to, {tiling.chunk} at a time, {held}."
            )
        width = max((len(name) for name in self.leaves), default=0)
        lines += [f"  {n:<{width}}  {_leaf(leaf)}" for n, leaf in self.leaves.items()]
        return "\n".join(lines)


def plan(
    model: PyTree,
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    outputs: OutputLayout = "trace",
    method: KernelMethod = "auto",
    max_bytes: int | None = None,
    apply: Apply | None = None,
    trainable: PyTree | None = None,
    by_leaf: bool = False,
) -> Plan:
    """How `ntk` would compute a kernel, without computing it.

    Args:
        model: As for `ntk`.
        x1: As for `ntk`.
        x2: As for `ntk`.
        outputs: As for `ntk`.
        method: As for `ntk`.
        max_bytes: As for `ntk`.
        apply: As for `ntk`.
        trainable: As for `ntk`.
        by_leaf: As for `ntk`.

    Returns:
        The plan.

    Raises:
        ValueError: As for `ntk`.

    Verified by:
        tests/kernels/test_plan.py::test_plan_names_the_cheapest_method_that_fits,
        tests/kernels/test_plan.py::test_operations_are_those_of_the_formula
    """  # ruff: ignore[docstring-extraneous-exception]
    find_layout(outputs)
    check_method(method)
    call = check_call(apply, x1, x2)
    params, static = partition(without_explicit_axes(model), trainable)
    example, other = repeat_both(*call.examples(static), params, call.x1, call.x2)
    request = request_of(
        example,
        params,
        call.x1,
        call.x2,
        other,
        outputs=outputs,
        max_bytes=check_bound(max_bytes),
        by_leaf=by_leaf,
    )
    check_modes(method, request)
    estimates = estimate_all(request)
    chosen = cheapest(request, estimates) if method == "auto" else method
    grid = request.grid
    shape = request.layout.shape(grid.n1, grid.n2, grid.n_outputs)
    names = [name for name, _ in named_leaves(params)]
    found = estimates[chosen].leaves
    return Plan(
        method=chosen,
        shape=shape,
        dtype=request.dtype,
        max_bytes=request.max_bytes,
        result_bytes=int(np.prod(shape)) * request.dtype.itemsize,
        leaves=dict(zip(names, found, strict=True)) if found else {},
        estimates=estimates,
    )


def _leaf(leaf: LeafPlan) -> str:
    sizes = "".join(
        f", {blocks} blocks of {rows} x {columns} at {positions} positions"
        if blocks > 1
        else f", {rows} x {columns} at {positions} position{'s' * (positions > 1)}"
        for blocks, positions, rows, columns in leaf.shape
    )
    others = "".join(
        f", {form} {_flops(flops)}"
        for form, flops in leaf.options.items()
        if form != leaf.form
    )
    instead = f" instead of{others[1:]}" if others else ""
    return f"{leaf.form}{sizes}: {_flops(leaf.flops)}{instead}"


def _flops(flops: float | int) -> str:
    for unit in ("flop", "kflop", "Mflop", "Gflop"):
        if flops < 1000:
            return f"{flops:.3g} {unit}"
        flops /= 1000
    return f"{flops:.3g} Tflop"


def _bytes(n: float | int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"
