"""An ensemble: models stacked on a leading axis, and numbers that differ in it."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np

from ..flows import AbstractFlow
from ..models import Scaled
from ..problem import Problem
from ._events import AbstractEvent
from ._lanes import Lanes, split_numbers


def as_lanes(problem: Problem, ensemble: Any, events: Sequence[AbstractEvent]) -> Lanes:
    """The models of a run: the problem's own, or those of an ensemble.

    Args:
        problem: The problem.
        ensemble: Models stacked on a leading axis, or None.
        events: Stop conditions.

    Returns:
        The models.

    Raises:
        ValueError: If the ensemble is not the problem's model stacked, or takes no such
            request.
    """
    if ensemble is None:
        return Lanes(problem, problem.params, problem.static, None)
    if events:
        raise ValueError(
            "An ensemble takes no events, since its members would end at different "
            "times: simulate its members one by one."
        )
    expected = jtu.tree_structure(eqx.filter(problem.model, eqx.is_array))
    found = jtu.tree_structure(eqx.filter(ensemble, eqx.is_array))
    own = jtu.tree_leaves(eqx.filter(problem.model, eqx.is_array))
    stacked = jtu.tree_leaves(eqx.filter(ensemble, eqx.is_array))
    counts = {leaf.shape[0] for leaf in stacked if leaf.ndim > 0}
    same = expected == found and len(own) == len(stacked) and len(counts) == 1
    if not same or any(
        a.shape != b.shape[1:] for a, b in zip(own, stacked, strict=True)
    ):
        raise ValueError(
            "ensemble must be the problem's model with a leading axis on every array: "
            "equinox.filter_vmap(make_model)(keys), with the make_model of the problem."
        )
    params, static = eqx.partition(ensemble, problem.trainable)
    lanes = Lanes(problem, params, static, counts.pop())
    _check_scales(ensemble, lanes)
    return lanes


def _check_scales(ensemble: Any, lanes: Lanes) -> None:
    """Refuses members whose output scale is none: it was traced when they were made."""
    nodes = jtu.tree_leaves(ensemble, is_leaf=lambda node: isinstance(node, Scaled))
    for node in nodes:
        if isinstance(node, Scaled):
            alpha = np.asarray(node.scale.tree)
            if not np.all((alpha > 0) & np.isfinite(alpha)):
                raise ValueError(
                    "The output scale alpha of every member of the ensemble must be "
                    f"positive and finite, got {alpha.tolist()}."
                )
    for i in range(lanes.number or 1):
        _ = lanes.lane(i).time_scale


def check_numbers(flows: Sequence[AbstractFlow], lanes: Lanes) -> None:
    """Refuses learning rates or dampings that are not one number a member.

    Args:
        flows: The flows.
        lanes: The models.

    Raises:
        ValueError: If there are more or fewer.
    """
    own, _ = split_numbers(tuple(flows))
    for leaf in jtu.tree_leaves(own):
        if lanes.number is None:
            raise ValueError(
                f"A flow has {len(leaf)} learning rates, momenta or dampings, one a "
                "member of an ensemble: pass ensemble=, models stacked on a leading "
                "axis, or one number."
            )
        if len(leaf) != lanes.number:
            raise ValueError(
                f"A flow has {len(leaf)} learning rates, momenta or dampings and the "
                f"ensemble {lanes.number} members: give one number, or one a member."
            )
