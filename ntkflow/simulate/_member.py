"""What the host keeps of an ensemble member."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ..flows import OutputState
from ..problem import Problem
from ._integrate import Integration
from ._judge import Excess
from ._lanes import take
from ._reading import Record, Reference, memory_of
from ._request import Request
from ._stops import Stop


@dataclass
class Lane:
    """What the host keeps of one lane of one solve.

    Attributes:
        problem: The lane's problem.
        reference: What its readings compare with.
        records: One record a save time passed.
        stored: Records that the checkpoint holds, of save times yet to pass too: a run
            that ended while it read a segment need not read those again.
        pending: The last of `records`, which the checkpoint does not hold yet.
        excess: The largest estimated error of the outputs so far.
        stop: Where a stop condition has ended it.
        previous: The last save time passed and the coupled state there, from which a
            costly stop condition is located; no state where there is none.
    """

    problem: Problem
    reference: Reference
    records: list[Record] = field(default_factory=list)
    stored: list[Record] = field(default_factory=list)
    pending: list[Record] = field(default_factory=list)
    excess: Excess = field(default_factory=Excess)
    stop: Stop = field(default_factory=Stop)
    previous: tuple[float, Any] = (0.0, None)

    def begin_again(self) -> None:
        """Forgets what was read at a tolerance that was too loose."""
        self.records, self.stored, self.pending = [], [], []
        self.excess, self.stop = Excess(), Stop()


def memory_before(lane: Lane, times: np.ndarray, at: int) -> Record:
    """What the reading of a save time is given of the one before.

    Args:
        lane: The member.
        times: Save times.
        at: Index of the save time.

    Returns:
        The memory.
    """
    if at == 0:
        return memory_of(lane.reference, 0.0, None)
    return memory_of(lane.reference, float(times[at - 1]), lane.records[at - 1])


def constants_of(integration: Integration, lane: int) -> Any:
    """What the flows of one member prepared.

    Args:
        integration: The solve.
        lane: Index of the member.

    Returns:
        Arrays by flow name.
    """
    if integration.lanes.number is None:
        return integration.constants
    return take(integration.constants, lane)


def linearized_at(
    solves: Sequence[Lane], name: str | None, at: int | None
) -> OutputState | None:
    """Outputs of a linearized flow that was solved before.

    Args:
        solves: What is kept of one member, solve by solve.
        name: Name of the flow, or None.
        at: Index of a save time; None between save times, where they are not known.

    Returns:
        The outputs, NaN where they are not known; None if no solve has them.
    """
    for lane in solves:
        records, found = lane.records, 0 if at is None else at
        if len(records) > found and f"f_train/{name}" in records[found]:
            record = records[found]
            test = record.get(f"f_test/{name}")
            train = jnp.asarray(record[f"f_train/{name}"])
            known = OutputState(train, None if test is None else jnp.asarray(test))
            if at is not None:
                return known
            return jtu.tree_map(lambda f: jnp.full_like(f, jnp.nan), known)
    return None


def arrays_once(request: Request, lanes: Sequence[Lane]) -> dict[str, np.ndarray]:
    """What does not change over time: the targets, and variables read at t = 0.

    Args:
        request: The request.
        lanes: The members of the measured solve.

    Returns:
        Arrays by name, of an ensemble with an axis of members.
    """
    problem = request.problem
    once = {"y_train": np.asarray(problem.y)}
    if problem.y_test is not None:
        once["y_test"] = np.asarray(problem.y_test)
    for name in lanes[0].reference.once:
        arrays = [np.asarray(lane.reference.once[name]) for lane in lanes]
        ensemble = request.lanes.number is not None
        once[name] = np.stack(arrays) if ensemble else arrays[0]
    return once
