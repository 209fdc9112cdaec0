"""Whether a run is as accurate as asked: its errors, from its companion's outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..flows import Quadrature
from ._accuracy import can_tighten, is_exact, share_of
from ._integrate import Segment
from ._jumps import shift
from ._lanes import take
from ._plan import PlannedSolve
from ._reading import Record
from ._reason import Reason
from ._request import Request
from ._solve import size_of_targets
from ._tally import Tally
from ._tracked import Tracked

ALLOWED = 3.0
"""Tolerances by which outputs may be wrong: what `rtol` promises of a whole run."""


class Tolerances(NamedTuple):
    """What the outputs of a run are held to.

    Attributes:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        scale: Size below which outputs count as small.
    """

    rtol: float
    atol: float
    scale: float

    def allowed(self, f: np.ndarray) -> float:
        """The root mean square error of some outputs that counts as one tolerance.

        Args:
            f: The outputs.

        Returns:
            An error, in units of the outputs.
        """
        return self.atol + self.rtol * max(_rms(f), self.scale)


@dataclass
class Excess:
    """The largest estimated error of a member's outputs.

    Attributes:
        largest: In tolerances; NaN while none is known.
        at: Training time of it.
    """

    largest: float = float("nan")
    at: float = 0.0

    def note(self, found: float, at: float) -> None:
        """Takes an error into account.

        Args:
            found: The error in tolerances; NaN where nothing is known.
            at: Training time of it.
        """
        if found > self.largest or np.isnan(self.largest):
            self.largest, self.at = found, at


class Judge:
    """Estimates the errors of a run, and says whether they are small enough.

    Args:
        request: The request.
    """

    def __init__(self, request: Request):
        self._request = request
        scale = float(size_of_targets(request.problem))
        self._tolerances = Tolerances(request.rtol, request.atol, scale)

    def errors(
        self,
        planned: PlannedSolve,
        run: Tracked,
        companion: Tracked | None,
        record: Record,
        member: int,
        at: int,
    ) -> Record:
        """The estimated errors of one member at one save time.

        Args:
            planned: The solve, at level 1.
            run: The run.
            companion: Its companion; None where it has none.
            record: Outputs and losses of the run.
            member: The member.
            at: Index of the save time.

        Returns:
            As `_error_record`; nothing where errors are left out.
        """
        if not self._request.global_error:
            return {}
        share = np.inf if is_exact(planned.solve) else share_of(planned, run.level)
        coarse = None if companion is None else companion.at(member, at)
        return _error_record(_with_outputs(planned), record, coarse, share)

    def excess(self, planned: PlannedSolve, record: Record) -> float:
        """The largest error of a save time, in tolerances.

        Args:
            planned: The solve.
            record: Outputs of the save time, with their errors.

        Returns:
            A number of tolerances; NaN where nothing is known.
        """
        if not self._request.global_error:
            return float("nan")
        found = [
            float(record[f"f_train_error/{name}"])
            / self._tolerances.allowed(record[f"f_train/{name}"])
            for name in _with_outputs(planned)
            if f"f_train/{name}" in record
        ]
        return max((e for e in found if not np.isnan(e)), default=float("nan"))

    def shifts(
        self, planned: PlannedSolve, run: Tracked, companion: Tracked
    ) -> list[tuple[float, float]]:
        """Of every member the error of leaving a plateau at another time, and when.

        It is taken to be at most the size of outputs.

        Args:
            planned: The solve, at level 1.
            run: The run.
            companion: Its companion.

        Returns:
            Tolerances, 0 where there is no such error, and training times.
        """
        own, other = run.integration.state, companion.integration.state
        states = [(own, other)]
        if self._request.lanes.number is not None:
            members = range(self._request.lanes.number)
            states = [(take(own, i), take(other, i)) for i in members]
        share, size = share_of(planned, run.level), self._tolerances.scale
        unit = self._tolerances.allowed(np.zeros(1))
        found = []
        for own, other in states:
            jumps = own.controller.growth.jumps, other.controller.growth.jumps
            apart, at = shift(*jumps, float(other.t))
            found.append((min(apart / share, size) / unit, at))
        return found

    def level_needed(
        self,
        planned: PlannedSolve,
        run: Tracked,
        companion: Tracked,
        segment: Segment,
        shifts: Sequence[tuple[float, float]],
    ) -> int | None:
        """The level at which to begin again.

        Args:
            planned: The solve, at level 1.
            run: The run, which keeps the outputs of the segment.
            companion: Its companion.
            segment: What the run has just integrated.
            shifts: From `shifts`.

        Returns:
            The level; None where the segment is accurate, or the solve is not repeated.
        """
        if not planned.repeats:
            return None
        run.take(segment)
        largest = max(found for found, _ in shifts)
        for i, saved in enumerate(segment.saved):
            for at in range(int(segment.first[i]), int(segment.first[i]) + len(saved)):
                record = run.at(i, at)
                assert record is not None
                errors = self.errors(planned, run, companion, record, i, at)
                found = self.excess(planned, {**record, **errors})
                largest = max(largest, 0.0 if np.isnan(found) else found)
        return self.next_level(planned, run, largest)

    def next_level(
        self, planned: PlannedSolve, run: Tracked, largest: float
    ) -> int | None:
        """The level at which to begin again after an error.

        Args:
            planned: The solve, at level 1.
            run: The run.
            largest: The error, in tolerances.

        Returns:
            The level; None where the error is allowed, or the solve is not repeated.
        """
        # One level at a time, whatever the error: how much of it is seen at once
        # depends on where segments end, and results must not.
        tighter = can_tighten(planned, run.level, self._request.problem.dtype)
        repeats = planned.repeats and largest > ALLOWED and tighter
        return run.level + 1 if repeats else None

    def settle(
        self, planned: PlannedSolve, found: Sequence[Excess], tally: Tally
    ) -> None:
        """Tells a run that has ended and missed its tolerance from one that met it.

        Args:
            planned: The solve.
            found: The largest error of every member.
            tally: The tally of the run, whose code it sets.
        """
        if planned.held:
            wrong = np.asarray([one.largest > ALLOWED for one in found])
            missed = wrong & (tally.code == Reason.COMPLETED)
            tally.code = np.where(missed, Reason.ACCURACY, tally.code)


def accuracy_warning(excess: float, at: float, grown: str) -> str:
    """What a person should know of a run that misses its tolerance.

    Args:
        excess: The largest estimated error in tolerances.
        at: Training time of that.
        grown: What is known of the growth of errors, or an empty text.

    Returns:
        Sentences.
    """
    said = (
        f"The outputs may be wrong by {excess:.2g} times the tolerance at t ≈ {at:.3g} "
        "by comparison with a run at a looser tolerance. Tighten rtol, or take "
        'solver="auto", which repeats a run of a smooth model that misses it as far as '
        "the dtype allows."
    )
    return f"{said} {grown}".rstrip()


def _error_record(
    names: Sequence[str],
    record: Mapping[str, np.ndarray],
    coarse: Record | None,
    share: float,
) -> Record:
    """The global error of every flow at one save time.

    Args:
        names: Flows that have outputs.
        record: Outputs and losses of the run.
        coarse: Those of its companion; None where it has none, NaN then.
        share: From `share_of`; infinite for a solve that makes no error.

    Returns:
        Root mean square errors of the training outputs and errors of the loss, as
        `f_train_error/flow` and `loss_train_error/flow`.
    """
    found: Record = {}
    for name in names:
        if f"f_train/{name}" not in record:
            continue
        f, loss = record[f"f_train/{name}"], record[f"loss_train/{name}"]
        if np.isinf(share):
            errors = 0.0, 0.0
        elif coarse is None:
            errors = np.nan, np.nan
        else:
            errors = (
                _apart(f, coarse[f"f_train/{name}"]) / share,
                _apart(loss, coarse[f"loss_train/{name}"]) / share,
            )
        for kind, error in zip(("f_train", "loss_train"), errors, strict=True):
            found[f"{kind}_error/{name}"] = np.asarray(error, f.dtype)
    return found


def _with_outputs(planned: PlannedSolve) -> list[str]:
    flows = planned.solve.coupled.flows
    return [flow.name for flow in flows if not isinstance(flow, Quadrature)]


def _apart(fine: np.ndarray, coarse: np.ndarray) -> float:
    # Both may be infinite where a flow diverges: then nothing is known.
    with np.errstate(over="ignore", invalid="ignore"):
        return _rms(np.asarray(fine - coarse))


def _rms(f: np.ndarray) -> float:
    # Outputs of a flow that diverges may be beyond what their square can hold.
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.mean(np.square(f)))) if f.size else 0.0
