"""From plain arrays to a `Dataset`: checked, split, standardized, encoded."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array
from numpy.typing import ArrayLike

from .._errors import unknown_name
from .._types import Scaling, TargetEncoding
from ._dataset import Dataset
from ._scaling import SCALINGS, fit_scaling
from ._split import stratified_order
from ._targets import (
    ENCODINGS,
    Classification,
    Regression,
    find_classes,
    is_discrete,
)


class _Examples(NamedTuple):
    x: np.ndarray
    y: np.ndarray

    def at(self, index: np.ndarray) -> "_Examples":
        return _Examples(self.x[index], self.y[index])


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    targets: TargetEncoding = "onehot",
    classes: Sequence[int | str] | None = None,
    scaling: Scaling = "common",
    dtype: DTypeLike | None = None,
    name: str = "arrays",
) -> Dataset:
    """Makes a data set of arrays: checked, split, standardized and encoded.

    The split is seeded, and stratified if `y` holds integers or strings. Inputs, and
    outputs for regression, are standardized by the mean and the standard deviation of
    the training part alone.

    Args:
        x: Inputs, real numbers of shape [N, ...].
        y: Targets: one integer or string an example, or for regression real numbers of
            shape [N] or [N, K].
        x_test: Test inputs, where a test part exists already; else it is split off `x`.
        y_test: Test targets, likewise.
        n_train: How many examples to train on; `None` for all that are not tested on.
        n_test: How many examples to test on; 0 for none, `None` for all of `x_test`, or
            none without it. A part of all examples keeps their order.
        seed: Equal seeds give equal splits.
        targets: `"onehot"`, `"centered"` (one-hot less 1/K), `"labels"` (integers below
            K) or `"regression"` ([N, K], standardized; [N, 1] for one number each).
        classes: The classes to keep, in the order of the outputs; `None` for all,
            sorted.
        scaling: `"common"` moves each feature to mean 0 and divides all of them by one
            number, so that |x|² averages to the number of features; right for features
            in one unit, such as pixels. `"each"` divides each feature by its own
            standard deviation; right for columns in different units. `"none"` leaves
            `x` as it is. What does not vary is divided by 1.
        dtype: A real float dtype; `None` for JAX's default.
        name: Where the data come from, for titles and records.

    Returns:
        The data set.

    Raises:
        ValueError: If shapes disagree, a number is not finite, there are not enough
            examples, a class is absent, or a name or dtype is unknown.
    """
    _check_option("targets", targets, ENCODINGS)
    _check_option("scaling", scaling, SCALINGS)
    if (x_test is None) != (y_test is None):
        raise ValueError("Only one of x_test and y_test is given; expected both.")
    dtype = _float_dtype(dtype)
    pools = [_examples(x, y, "x", "y")]
    if x_test is not None and y_test is not None:
        pools.append(_examples(x_test, y_test, "x_test", "y_test"))
        _check_alike(*pools)
    found = np.arange(0)
    if targets != "regression" or classes is not None:
        found = find_classes(pools[0].y, classes)
        pools = [_of_classes(pool, found, classes is None) for pool in pools]
    train, test = _split(pools, n_train, n_test, seed)
    if targets == "regression":
        encoding = Regression.fit(train.y)
    else:
        encoding = Classification(found, targets)
    return _dataset(train, test, encoding, scaling, dtype, name)


def _check_option(kind: str, name: str, options: Sequence[str]) -> None:
    if name not in options:
        raise unknown_name(kind, name, options)


def _float_dtype(dtype: DTypeLike | None) -> np.dtype:
    default = jnp.result_type(float)
    wanted = default if dtype is None else jnp.dtype(dtype)
    if not jnp.issubdtype(wanted, jnp.floating):
        raise ValueError(
            f"dtype is {wanted}; expected a real float dtype such as {default}."
        )
    if jnp.finfo(wanted).bits > jnp.finfo(default).bits:
        raise ValueError(
            f"dtype is {wanted}, but JAX is limited to {default}. Call "
            'jax.config.update("jax_enable_x64", True) first, or ask for less.'
        )
    return wanted


def _examples(x: ArrayLike, y: ArrayLike, x_name: str, y_name: str) -> _Examples:
    examples = _Examples(np.asarray(x), np.asarray(y))
    x, y = examples
    if x.ndim < 2 or x.size == 0 or x.dtype.kind not in "biuf":
        raise ValueError(
            f"{x_name} has shape {x.shape} and dtype {x.dtype}; expected real numbers "
            "of shape [N, ...], at least one example of at least one feature."
        )
    if y.ndim < 1 or len(y) != len(x):
        raise ValueError(
            f"{x_name} has shape {x.shape} and {y_name} has shape {y.shape}; expected "
            "as many targets as examples along the first axis."
        )
    for values, name in ((x, x_name), (y, y_name)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            wrong = np.argwhere(~np.isfinite(values))
            raise ValueError(
                f"{name} holds {len(wrong)} numbers that are not finite, the first at "
                f"index {tuple(wrong[0].tolist())}. Leave out or fill those examples."
            )
    return examples


def _check_alike(pool: _Examples, pool_test: _Examples) -> None:
    same_kind = is_discrete(pool.y) == is_discrete(pool_test.y)
    for own, other, name, same in (
        (pool.x, pool_test.x, "x", True),
        (pool.y, pool_test.y, "y", same_kind),
    ):
        if own.shape[1:] != other.shape[1:] or not same:
            raise ValueError(
                f"{name} has shape {own.shape} and dtype {own.dtype}, {name}_test has "
                f"{other.shape} and {other.dtype}; expected the same except for the "
                "number of examples."
            )


def _of_classes(pool: _Examples, classes: np.ndarray, expect_all: bool) -> _Examples:
    kept = np.isin(pool.y, classes)
    if expect_all and not kept.all():
        raise ValueError(
            f"y_test holds {np.unique(pool.y[~kept]).tolist()}, which y does not. "
            "Name the classes to keep with classes=."
        )
    return pool.at(kept)


def _split(
    pools: list[_Examples], n_train: int | None, n_test: int | None, seed: int
) -> list[_Examples]:
    if len(pools) == 1:
        n_test = 0 if n_test is None else n_test
        n_train = len(pools[0].y) - n_test if n_train is None else n_train
        parts = _draw(pools[0], {"n_train": n_train, "n_test": n_test}, seed)
    else:
        pool, pool_test = pools
        n_train = len(pool.y) if n_train is None else n_train
        n_test = len(pool_test.y) if n_test is None else n_test
        parts = _draw(pool, {"n_train": n_train}, seed)
        parts += _draw(pool_test, {"n_test": n_test}, seed)
    if len(parts[0].y) == 0:
        raise ValueError(f"n_train is {n_train}; expected at least 1.")
    return parts


def _draw(pool: _Examples, counts: Mapping[str, int], seed: int) -> list[_Examples]:
    total = len(pool.y)
    if min(counts.values()) < 0 or sum(counts.values()) > total:
        asked = " and ".join(f"{name}={count}" for name, count in counts.items())
        raise ValueError(
            f"{asked} cannot be drawn from {total} examples. Choose numbers from 0 on "
            f"that sum to {total} at most."
        )
    if total in counts.values():
        order = np.arange(total)
    else:
        labels = pool.y if is_discrete(pool.y) else np.zeros(total)
        order = stratified_order(labels, seed=seed)
    ends = np.cumsum(list(counts.values()))
    return [pool.at(part) for part in np.split(order, ends)[:-1]]


def _dataset(
    train: _Examples,
    test: _Examples,
    encoding: Classification | Regression,
    scaling: Scaling,
    dtype: np.dtype,
    name: str,
) -> Dataset:
    mean, std = fit_scaling(train.x, scaling)

    def as_jax(values: np.ndarray) -> Array:
        return jnp.asarray(values.astype(dtype) if values.dtype.kind == "f" else values)

    def inputs(part: _Examples) -> Array:
        return as_jax((part.x.astype(np.float64) - mean[None]) / std[None])

    labels = labels_test = y_mean = y_std = classes = None
    if isinstance(encoding, Regression):
        y_mean, y_std = as_jax(encoding.mean), as_jax(encoding.std)
    else:
        classes = tuple(encoding.classes.tolist())
        labels = as_jax(encoding.indices(train.y))
        labels_test = as_jax(encoding.indices(test.y))
    tested = len(test.y) > 0
    return Dataset(
        x_train=inputs(train),
        y_train=as_jax(encoding.encode(train.y)),
        x_test=inputs(test) if tested else None,
        y_test=as_jax(encoding.encode(test.y)) if tested else None,
        labels_train=labels,
        labels_test=labels_test if tested else None,
        x_mean=as_jax(mean),
        x_std=as_jax(std),
        y_mean=y_mean,
        y_std=y_std,
        classes=classes,
        name=name,
    )
