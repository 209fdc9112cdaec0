"""How far and how fast a solve goes, for the line of progress."""

import numpy as np

from .._progress import duration
from ._tally import Tally


class Pace:
    """The pace of integrating and of reading, each without what compiling took.

    Args:
        end: Training time at the end.
        readings: Readings the whole solve takes, a save time and lane each.
        done: Readings made before, by a run that is resumed.
    """

    def __init__(self, end: float, readings: int, done: int):
        self._end = end
        self._readings = readings
        self._done = done
        self._timed: list[float] | None = None
        self._segment: tuple[float, float] | None = None
        self._rate: float | None = None

    @property
    def compiles(self) -> bool:
        """Whether the next reading is the first, which compiles what reads."""
        return self._timed is None

    def skip(self) -> None:
        """Counts a reading that a checkpoint held."""
        self._done += 1

    def read(self, seconds: float) -> None:
        """Counts a reading; the first is not timed.

        Args:
            seconds: What it took.
        """
        self._done += 1
        if self._timed is None:
            self._timed = []
        else:
            self._timed.append(seconds)

    def advance(self, t: float, seconds: float, *, compiled: bool) -> None:
        """Notes the end of a segment.

        Args:
            t: Training time reached.
            seconds: Seconds spent integrating so far.
            compiled: Whether the segment was a solver's first, which compiles it and
                says nothing about the pace.
        """
        if compiled:
            self._rate = None
        elif self._segment is not None and t > self._segment[0]:
            before, then = self._segment
            self._rate = (seconds - then) / (t - before)
        self._segment = (t, seconds)

    def left(self) -> str:
        """The time left, in words.

        Returns:
            A clause; empty while the pace of integrating or of reading is unknown, and
            at the end.
        """
        if self._segment is None or self._rate is None or not self._timed:
            return ""
        ahead, readings = self._end - self._segment[0], self._readings - self._done
        if ahead <= 0 and readings <= 0:
            return ""
        integrating = self._rate * max(ahead, 0.0)
        reading = float(np.mean(self._timed)) * readings
        return f" · about {duration(integrating + reading)} left"

    def line(self, tally: Tally, loss: str, saves: int) -> str:
        """The line at the end of a segment.

        Args:
            tally: The solve's tally.
            loss: The loss, in words; empty if unknown.
            saves: Number of save times.

        Returns:
            Time, loss, steps, save times, and the time left.
        """
        t = 0.0 if self._segment is None else self._segment[0]
        steps, saved = int(np.max(tally.steps)), int(np.min(tally.saved))
        return (
            f"t = {t:.3g} of {self._end:.3g}{loss} · steps {steps} · "
            f"{saved} of {saves} saved{self.left()}"
        )
