"""A model without its trained leaves: what they are put back into."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np

from .._types import Params
from ..models import named_leaves
from ..storage import fingerprint


def digest_of(params: Params, static: Any) -> str:
    """Tells models apart by all but the numbers in their trained leaves.

    Args:
        params: The trained leaves.
        static: The other leaves.

    Returns:
        Hexadecimal digits.
    """
    kinds = [(name, leaf.shape, str(leaf.dtype)) for name, leaf in named_leaves(params)]
    return fingerprint(kinds, static)


def frame(
    like: Any,
    leaves: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any],
    *,
    stacked: bool,
) -> tuple[Params, Any]:
    """A model's leaves, those that a run has trained apart from the others.

    Args:
        like: The model.
        leaves: What the run trained, by name, with an axis of save times.
        attrs: Attributes of the run's dataset.
        stacked: Whether the run is an ensemble, with an axis of members in front.

    Returns:
        The trained leaves and the others, each of the model's structure.

    Raises:
        ValueError: The model is not the one that the run trained: its leaves have other
            names, shapes or dtypes, or something else of it differs.

    Verified by:
        tests/simulate/test_frame.py::test_a_run_is_read_into_its_own_model_alone
    """
    found: dict[str, Any] = {}

    def is_trained(path: Any, leaf: Any) -> bool:
        name = jtu.keystr(path).removeprefix(".")
        if name in leaves:
            found[name] = leaf
        return name in leaves

    params, static = eqx.partition(like, jtu.tree_map_with_path(is_trained, like))
    axis = 1 if stacked else 0
    for name, stored in leaves.items():
        if name not in found:
            raise ValueError(_said(f"it has no {name}"))
        shape = stored.shape[:axis] + stored.shape[axis + 1 :]
        own = np.shape(found[name]), str(getattr(found[name], "dtype", "no array"))
        if own != (shape, str(stored.dtype)):
            kinds = (
                f"{own[1]}{list(own[0])}, that of the run {stored.dtype}{list(shape)}"
            )
            raise ValueError(_said(f"its {name} is {kinds}"))
    if digest_of(params, static) != attrs["model_digest"]:
        what = "a number, an option, a function or a leaf that is not trained differs"
        printed = 'that of the run is printed in dataset.attrs["model"]'
        raise ValueError(_said(f"{what}; {printed}"))
    return params, static


def _said(what: str) -> str:
    return (
        f"like= is not the model that this run trained: {what}. Pass the model of the "
        "run's problem, with any values of its trained leaves."
    )
