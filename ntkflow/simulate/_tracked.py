"""An integration with the outputs of its flows at the save times it has passed."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..problem import Problem
from ._checkpoint import Checkpoint, Restored
from ._integrate import Integration, Segment
from ._lanes import take
from ._reading import Record, read_outputs
from ._reason import Reason


class Tracked:
    """One solve at one level of tolerance, whose outputs are kept.

    The run itself is one, and so is the companion that tells its error.

    Args:
        integration: The solve.
        level: The level of its tolerance.
        problems: The problem of every ensemble member.

    Attributes:
        integration: The solve.
        level: The level of its tolerance.
        outputs: Outputs and losses, by member and save time.
        segments: The segments to come.
        stored: How many records of each member a checkpoint holds.
    """

    def __init__(
        self,
        integration: Integration,
        level: int,
        problems: Sequence[Problem],
    ):
        self.integration = integration
        self.level = level
        self.outputs: list[list[Record]] = [[] for _ in problems]
        self.segments: Iterator[Segment] = integration.segments()
        self._problems = problems
        self.stored = [0] * len(self.outputs)

    def take(self, segment: Segment) -> None:
        """Reads the outputs of what a segment saved.

        Args:
            segment: The segment, the next one of this integration.
        """
        for i, problem in enumerate(self._problems):
            constants = self.integration.constants
            if self.integration.lanes.number is not None:
                constants = take(constants, i)
            coupled = self.integration.solve.coupled
            self.outputs[i] += [
                read_outputs(coupled, problem, constants, state)
                for state in segment.saved[i]
            ]

    def reach(self, count: int) -> None:
        """Integrates until every member has passed some save times, or has ended.

        Args:
            count: Their number.
        """
        while self._is_behind(count):
            segment = next(self.segments, None)
            if segment is None:
                return
            self.take(segment)

    def _is_behind(self, count: int) -> bool:
        running = self.integration.tally.code == Reason.RUNNING
        lengths = np.asarray([len(member) for member in self.outputs])
        return bool((running & (lengths < count)).any())

    def at(self, member: int, i: int) -> Record | None:
        """Outputs and losses at a save time.

        Args:
            member: The ensemble member.
            i: Index of the save time.

        Returns:
            The record; None where the integration did not come to it.
        """
        own = self.outputs[member]
        return own[i] if i < len(own) else None

    def write(self, store: Checkpoint, index: int) -> None:
        """Keeps a companion: its outputs, then the state that goes on after them.

        Args:
            store: The checkpoint.
            index: Index of the solve.
        """
        for i, own in enumerate(self.outputs):
            done = self.stored[i]
            if len(own) > done:
                store.write_records(index, i, done, own[done:], self.level)
                self.stored[i] = len(own)
        store.write_state(
            index,
            self.integration.state,
            self.integration.tally,
            stats={},
            kept=min(len(own) for own in self.outputs),
            previous=None,
            level=self.level,
        )

    def restore(self, store: Checkpoint, index: int) -> Restored | None:
        """Goes on where a checkpoint left off.

        Args:
            store: The checkpoint.
            index: Index of the solve.

        Returns:
            What it holds of this level, or None.
        """
        restored = store.read_state(index, self.integration.like, self.level)
        if restored is None:
            return None
        self.integration.resume(restored.state, restored.tally)
        for i in range(len(self.outputs)):
            records = store.read_records(index, i, self.level)
            saved = int(restored.tally.saved[i])
            self.outputs[i] = [
                {n: a for n, a in record.items() if n.startswith(_KEPT)}
                for record in records[:saved]
            ]
            self.stored[i] = len(self.outputs[i])
        return restored


_KEPT = ("f_train/", "loss_train/")
