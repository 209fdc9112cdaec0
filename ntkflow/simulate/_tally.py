"""What a solve has cost and where it stands, as the host counts it."""

import copy
from dataclasses import dataclass, fields, replace

import numpy as np

from ..solvers import Work
from ._auto import Log
from ._reason import Reason


@dataclass
class Tally:
    """What a solve has cost and where it stands, lane by lane; part of a checkpoint.

    Attributes:
        saved: Save times passed.
        steps: Steps attempted.
        rejected: Steps rejected.
        code: A `Reason`.
        event: Index of the event that ended the lane, −1 if none.
        work: What the attempts and the starts cost, one column a field of `Work`.
        growth: How many-fold errors have grown.
        growth_at: Training time at which they had.
        reached: Training time up to which its results hold.
        seconds: Wall time spent integrating, without compiling.
        log: What `auto` did; None for a solver that the caller named.
    """

    saved: np.ndarray
    steps: np.ndarray
    rejected: np.ndarray
    code: np.ndarray
    event: np.ndarray
    work: np.ndarray
    growth: np.ndarray
    growth_at: np.ndarray
    reached: np.ndarray
    seconds: float = 0.0
    log: Log | None = None

    @classmethod
    def zeros(cls, lanes: int) -> "Tally":
        """Nothing done yet.

        Args:
            lanes: Number of lanes.

        Returns:
            A tally.
        """
        start, none = np.zeros(lanes, np.int64), np.full(lanes, -1)
        work = np.zeros((lanes, len(Work._fields)), np.int64)
        return cls(
            start,
            start.copy(),
            start.copy(),
            start.copy(),
            none,
            work,
            np.ones(lanes),
            np.zeros(lanes),
            np.zeros(lanes),
        )

    def copy(self) -> "Tally":
        """A tally that does not change with this one.

        Returns:
            The copy.
        """
        return copy.deepcopy(self)

    def where(self, lanes: np.ndarray, other: "Tally") -> "Tally":
        """This tally for some lanes, and another one for the others.

        Args:
            lanes: Which lanes are this one's.
            other: The other one's.

        Returns:
            The tally; seconds and log are this one's.
        """
        arrays = [f.name for f in fields(self) if f.name not in {"seconds", "log"}]

        def pick(name: str) -> np.ndarray:
            own, others = getattr(self, name), getattr(other, name)
            return np.where(lanes.reshape(-1, *[1] * (own.ndim - 1)), own, others)

        return replace(self, **{name: pick(name) for name in arrays})

    @property
    def cost(self) -> dict[str, int]:
        """The work of all lanes, by the fields of `Work`."""
        totals = self.work.sum(axis=0).tolist()
        return dict(zip(Work._fields, totals, strict=True))

    def end(self, lane: int, reason: Reason, t: float, saved: int) -> None:
        """Ends a lane before where it has been integrated to.

        Args:
            lane: The lane.
            reason: Why.
            t: Training time up to which its results hold.
            saved: Save times up to that.
        """
        self.code[lane], self.saved[lane] = reason, saved
        self.reached[lane] = t

    @property
    def running(self) -> np.ndarray:
        """Which lanes have more to do."""
        return self.code == Reason.RUNNING
