"""An ensemble: models stacked on a leading axis, and numbers that differ in it."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np

from .._precision import at_full_precision
from ..flows import AbstractFlow, Coupled
from ..models import Scaled
from ..problem import Problem
from ._events import AbstractEvent
from ._lanes import Lanes, split_numbers


def as_lanes(problem: Problem, ensemble: Any) -> Lanes:
    """The models of a run: the problem's own, or those of an ensemble.

    Args:
        problem: The problem.
        ensemble: Models stacked on a leading axis, or None.

    Returns:
        The models.

    Raises:
        ValueError: If the ensemble is not the problem's model stacked.
    """
    if ensemble is None:
        return Lanes(problem, problem.params, problem.static, None)
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


def check_events(
    events: Sequence[AbstractEvent], lanes: Lanes, flows: Sequence[AbstractFlow]
) -> None:
    """Refuses stop conditions without a flow to watch, or that hold from the start.

    Args:
        events: Stop conditions.
        lanes: The models.
        flows: The flows.

    Raises:
        ValueError: If there is one; of an ensemble, names the member.
    """
    if not events:
        return
    if not Coupled(tuple(flows)).parameter_flows:
        raise ValueError(
            "Stop conditions watch a flow of the network's parameters: add "
            "nf.flows.Gradient() to flows."
        )
    for event in events:
        if not isinstance(event, AbstractEvent):
            raise ValueError(
                f"events must be instances such as nf.LossBelow(0.01), got {event!r}."
            )
        for i in range(lanes.number or 1):
            value = float(_value_at_start(event, lanes.lane(i)))
            whose = "" if lanes.number is None else f" of member {i} of the ensemble"
            _check_start(event, value, whose)


@eqx.filter_jit
@at_full_precision
def _value_at_start(event: AbstractEvent, problem: Problem) -> Any:
    return event.value(problem, problem.params, event.reference(problem))


def _check_start(event: AbstractEvent, value: float, whose: str) -> None:
    if not np.isfinite(value):
        raise ValueError(
            f"{event} compares with its value at t = 0{whose}, which is zero or no "
            "number: the model is at rest there, or its loss is zero. Leave the "
            "event out."
        )
    if not value > 0:
        raise ValueError(
            f"{event} holds already at t = 0{whose} (value {value:g}): nothing "
            "would be simulated. Choose another threshold."
        )
