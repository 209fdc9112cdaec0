"""What the host keeps of an ensemble member, and where a stop condition ended a run."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..problem import Problem
from ._integrate import Integration
from ._judge import Excess
from ._lanes import take
from ._reading import Record, Reference, memory_of


@dataclass
class Stop:
    """Which stop condition ended the run, when, and what was read there.

    Attributes:
        by: The condition, printed; empty if none did.
        at: Training time.
        record: What was read; None at a save time, which has a record of its own.
    """

    by: str = ""
    at: float | None = None
    record: Record | None = None


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
    """

    problem: Problem
    reference: Reference
    records: list[Record] = field(default_factory=list)
    stored: list[Record] = field(default_factory=list)
    pending: list[Record] = field(default_factory=list)
    excess: Excess = field(default_factory=Excess)

    def begin_again(self) -> None:
        """Forgets what was read at a tolerance that was too loose."""
        self.records, self.stored, self.pending = [], [], []
        self.excess = Excess()


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
