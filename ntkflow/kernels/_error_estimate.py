"""How wrong a kernel is because the equation inside the model was solved so roughly."""

import warnings
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ntkflow._types import OutputLayout, Scalar
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._functions import Apply, check_call
from ntkflow.kernels._inputs import check_bound
from ntkflow.kernels._layouts import find_layout
from ntkflow.models import (
    LOOSE,
    events_of,
    loosest,
    partition,
    tightened,
    warn_if_not_located,
)

FACTOR: Final = 100.0
"""How much tighter the second solve is, by default."""


class ErrorEstimate(NamedTuple):
    """What two tolerances tell of a kernel.

    Attributes:
        error: The relative error of the model's kernel, in the Frobenius norm.
        kernel: The kernel of the tighter tolerance, the better of the two.
        loose: The kernel of the model's own tolerance, whose error this is.
        factor: How many times the tolerances differ.
    """

    error: Scalar
    kernel: Float[Array, "..."]
    loose: Float[Array, "..."]
    factor: float


def ntk_error_estimate(
    model: PyTree,
    x1: Shaped[Array | np.ndarray, "N1 ..."],
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    *,
    factor: float | int = FACTOR,
    outputs: OutputLayout = "trace",
    max_bytes: int | None = None,
    apply: Apply | None = None,
    trainable: PyTree | None = None,
) -> ErrorEstimate:
    """The error of a kernel by the solver inside the model, from two tolerances.

    The kernel is computed at the model's tolerances and at those divided by `factor`;
    the difference is the error of the first, up to the error of the second. Where the
    error is proportional to the tolerance, as for solvers that control the error of a
    step, that is one part in `factor`, and is allowed for (Richardson). A kernel that
    is symmetric and positive semidefinite may still be wrong by any factor: it is so
    by construction. An event that ends the depth without a root finder is at the end of
    a step at any tolerance; for the second kernel it is located.

    In single precision the tighter solve is made in float64, so that the estimate
    includes rounding.

    Args:
        model: A module that solves equations, whose tolerances are found in it: every
            `nf.models.Depth` and every `diffrax.PIDController` held by a module.
        x1: Examples along the rows.
        x2: Examples along the columns; by default those along the rows.
        factor: How much tighter the second kernel is; above 1.
        outputs: The layout, as for `ntk`.
        max_bytes: Bound on the working memory, as for `ntk`.
        apply: As for `ntk`.
        trainable: As for `ntk`.

    Returns:
        The estimate, and both kernels.

    Raises:
        ValueError: `factor` is not above 1, no tolerance is found, the tighter one is
            below what the precision holds, an event is true or false and no number
            that could be located; or as for `ntk`.

    Source: Hairer, Norsett & Wanner (1993), section II.4 (tolerance proportionality).

    Verified by:
        tests/kernels/test_error_estimate.py::test_estimate_is_within_five_times,
        tests/kernels/test_error_estimate.py::test_estimate_sees_an_event_not_located
    """
    find_layout(outputs)
    if not factor > 1:
        raise ValueError(f"factor must be above 1, such as {FACTOR:g}, got {factor}.")
    call = check_call(apply, x1, x2)
    params, _ = partition(model, trainable)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)

    def kernel(divisor: float | int, precision: Any) -> Float[Array, "..."]:
        changed = tightened(model, divisor, dtype, precision)
        params, static = partition(_cast(changed, precision), trainable)
        example, other = call.examples(static)
        (found,) = compute_kernels(
            example,
            params,
            _cast(call.x1, precision),
            None if call.x2 is None else _cast(call.x2, precision),
            outputs=outputs,
            method="auto",
            max_bytes=check_bound(max_bytes),
            by_leaf=False,
            other=other,
        )
        return found

    tight, loose = kernel(factor, wide), kernel(1, dtype)
    difference = jnp.linalg.norm(jnp.ravel(loose.astype(tight.dtype) - tight))
    error = difference / jnp.linalg.norm(jnp.ravel(tight)) / (1 - 1 / factor)
    return ErrorEstimate(error, tight, loose, float(factor))


def warn_if_loose(model: PyTree) -> None:
    """Warn of a tolerance that predictions may do with, and kernels may not.

    And of an event that a module holds for a solve of its own and does not locate; a
    `Depth` has warned when it was made.

    Args:
        model: A module.
    """
    for event in events_of(model):
        warn_if_not_located(event, stacklevel=4)
    rtol = loosest(model)
    if rtol > LOOSE:
        warnings.warn(
            f"The model solves an equation to rtol={rtol:g}. The error of a kernel is "
            "25 to 170 times that of the outputs, and no symmetry shows it. Set "
            f"rtol={LOOSE:g} or below, or see nf.ntk_error_estimate.",
            stacklevel=3,
        )


def _cast(tree: PyTree, dtype: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, tree
    )
