"""An integration with the outputs of its flows at the save times it has passed."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..problem import Problem
from ._before_end import go_on, note_end, select
from ._checkpoint import Checkpoint, Kept, Restored
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
        valid: How many of those that it held of a run to an earlier end hold for this
            one too; None where it held none of such a run.
        clean: Of a run that was given up, whether that was before its end, and that of
            its companion, had changed a step.
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
        self.valid: list[int] | None = None
        self.clean = False

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

    def accompany(self, companion: "Tracked | None") -> None:
        """Makes a run that is given up the companion of the one that repeats it.

        Args:
            companion: Its own companion.
        """
        both = [self] if companion is None else [self, companion]
        self.clean = all(one.integration.before_end is None for one in both)
        self.integration.unbind()
        self.segments = self.integration.segments()

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

    def end(self, member: int, reason: Reason, t: float, saved: int) -> None:
        """Ends a member before where it has been integrated to.

        Args:
            member: The ensemble member.
            reason: Why.
            t: Training time up to which its results hold.
            saved: Save times up to that.
        """
        self.integration.tally.end(member, reason, t, saved)
        del self.outputs[member][saved:]

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
        integration = self.integration
        kept = Kept({}, min(len(own) for own in self.outputs), clean=self.clean)
        store.write_state(
            index,
            self.level,
            integration.state,
            integration.tally,
            kept,
            integration.before_end,
        )

    def restore(self, store: Checkpoint, index: int) -> Restored | None:
        """Goes on where a checkpoint left off, or from before the end of a shorter run.

        Args:
            store: The checkpoint.
            index: Index of the solve.

        Returns:
            What it holds of this level, or None.
        """
        restored = self.read(store, index)
        if restored is None:
            return None
        self.clean = restored.kept.clean
        self.integration.resume(restored.state, restored.tally, restored.before_end)
        for i in range(len(self.outputs)):
            records = store.read_records(index, i, self.level)
            saved = int(restored.tally.saved[i])
            if self.valid is not None:
                store.trim_records(index, i, self.level, saved)
            self.outputs[i] = [
                {n: a for n, a in record.items() if n.startswith(_KEPT)}
                for record in records[:saved]
            ]
            self.stored[i] = len(self.outputs[i])
        return restored

    def read(self, store: Checkpoint, index: int) -> Restored | None:
        """What a checkpoint holds to go on from; nothing is changed by that.

        Args:
            store: The checkpoint.
            index: Index of the solve.

        Returns:
            What it holds; None if it holds nothing of this level, or what it holds is
            of a run to an earlier end that no run to this one can have been.
        """
        restored = store.read_state(index, self.integration.like, self.level)
        if restored is None or restored.times == store.times:
            return restored
        integration = self.integration
        found = go_on(
            restored.before_end, restored.state, restored.tally, integration.end
        )
        shorter = store.end_of(restored.times)
        if found is None or not integration.would_repeat(shorter, found[1].log):
            return None
        state, tally, back = found
        self.valid = tally.saved.tolist()
        kept = restored.kept
        if back.any() and restored.before_end is not None:
            before = restored.before_end.previous
            if before is not None and kept.previous is not None:
                before = select(back, before, kept.previous)
            stops = {i: stop for i, stop in kept.stops.items() if not back[i]}
            kept = kept._replace(previous=before, stops=stops)
        before = note_end(None, state, tally)
        return Restored(state, tally, kept, before, restored.times)


_KEPT = ("f_train/", "loss_train/")
