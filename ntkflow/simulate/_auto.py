"""`solver="auto"`: measures how stiff a solve is, and takes the solver it suits.

A solve begins with an explicit method, which measures the stiffness for nothing and is
all that a short run needs. From time to time the work ahead is forecast for every
solver, for the one in use from the work it has been doing. All is decided from counts,
after fixed numbers of steps, so that equal runs decide alike however they are cut into
segments; no clock is read.
"""

import copy
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..solvers import Work
from ._forecast import (
    CHEBYSHEV,
    EXPLICIT,
    EXPONENTIAL,
    IMPLICIT,
    Prices,
    Stand,
    forecast,
    forecast_lazy,
)

_FIRST = 8
"""Attempted steps before the first decision, and between two at first."""

_BETTER = 0.6
"""A forecast below this share of that of the solver in use makes it give way."""

_CHEAP_TRIAL = 0.33
"""Share of the work ahead that a lazy run's may have for it to be hoped for."""

_WORTH = 2e9
"""Operations that a change must save, some tenths of a second.

Compiling a solver takes longer, but is done once: what pays is the next such run.
"""

_SATURATED = 2.0
"""hρ from which steps of an explicit method count as limited by stability."""

_TRUSTED = 4.0
"""The most by which a forecast is corrected from what has been seen."""

_HVP = 2.0
"""A Hessian-vector product in evaluations; one with the network's Jacobian is one."""


class Seen(NamedTuple):
    """What is seen of a solve at a decision; of an ensemble, of its slowest lane.

    Attributes:
        t: Training time.
        steps: Steps attempted.
        kept: Steps kept.
        rho: The spectral radius as the solver knows it; NaN if it does not.
        work: All work done so far, by the fields of `Work`.
    """

    t: float
    steps: int
    kept: int
    rho: float
    work: tuple[float, ...]


@dataclass
class Log:
    """What `auto` has done and where it stands; part of a checkpoint.

    Attributes:
        name: The solver in use.
        since: Attempted steps at which it took over.
        due: Attempted steps at which to decide again.
        t: Training time at the last decision.
        kept: Steps kept by then.
        done: Work at the last decision, one number a field of `Work`.
        rho: The last known spectral radius, in units of 1/time; zero if unknown.
        decay: q, where it has been falling as t^(−q).
        limited: Decisions in a row at which stability was found to limit the steps.
        tried: Whether the exponential solver has been tried.
        failed: Solvers that have failed.
        story: Every solver used, with the time and the step at which it began.
        decisions: What every decision was taken from, and what it was, JSON-able.
    """

    name: str = EXPLICIT
    since: int = 0
    due: int = _FIRST
    t: float = 0.0
    kept: int = 0
    done: list[float] = field(default_factory=lambda: [0.0] * len(Work._fields))
    rho: float = 0.0
    decay: float = 0.0
    limited: int = 0
    tried: bool = False
    failed: list[str] = field(default_factory=list)
    story: list[list] = field(default_factory=lambda: [[EXPLICIT, 0.0, 0]])
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def keep_decision(self, seen: Seen) -> dict[str, Any]:
        """Keeps what a decision is taken from, before it is.

        Args:
            seen: What is seen.

        Returns:
            What is kept, to which the decision is to be added as `"chosen"`.
        """
        known = {name: getattr(self, name) for name in _DECIDING}
        # Of the spectral radius `rho` is what counts; here it may be no number.
        told = [*seen._replace(rho=0.0)[:-1], list(seen.work)]
        kept = {"log": copy.deepcopy(known), "seen": told, "chosen": self.name}
        self.decisions.append(kept)
        return kept

    def turn(self, seen: Seen) -> None:
        """Closes a decision.

        Args:
            seen: What was seen at it.
        """
        self.t, self.kept, self.done = seen.t, seen.kept, list(seen.work)
        self.due = seen.steps + max(_FIRST, seen.steps - self.since)

    def hand_over(self, name: str, seen: Seen) -> None:
        """Notes that another solver takes over.

        Args:
            name: Its name.
            seen: What was seen.
        """
        self.name, self.since = name, seen.steps
        self.story.append([name, seen.t, seen.steps])

    def sentence(self, steps: int) -> str:
        """What it did, for the statistics.

        Args:
            steps: Steps attempted in all.

        Returns:
            The solvers, with their steps and when they began.
        """
        ends = [begun for _, _, begun in self.story[1:]] + [steps]
        parts = [
            f"{name} for {end - begun} steps" + (f" from t = {t:.3g}" if t else "")
            for (name, t, begun), end in zip(self.story, ends, strict=True)
        ]
        return f"auto: {', '.join(parts)}"


_DECIDING = ("name", "t", "done", "rho", "decay", "tried", "failed")
"""What `Auto.choose` reads of a log."""


class Auto(NamedTuple):
    """How `auto` decides.

    Attributes:
        names: The solvers it may take.
        end: Training time at the end of the run.
        rtol: Relative tolerance.
        quadratic: Whether the loss is quadratic, so that only the kernel can change
            how stiff the flow is.
    """

    names: tuple[str, ...]
    end: float
    rtol: float
    quadratic: bool

    def note(self, log: Log, seen: Seen) -> None:
        """Takes in what is seen at a decision.

        Args:
            log: Changed in place: the spectral radius, how it moves, and whether it
                limits the steps.
            seen: What is seen.
        """
        if not seen.rho > 0:
            return
        step = (seen.t - log.t) / max(seen.kept - log.kept, 1)
        log.limited = log.limited + 1 if step * seen.rho > _SATURATED else 0
        if log.rho > 0 and log.t > 0 and seen.t > 1.2 * log.t:
            fall = math.log(log.rho / seen.rho) / math.log(seen.t / log.t)
            log.decay = min(max(fall, 0.0), 1.5)
        log.rho = seen.rho

    def stays_explicit(self, log: Log) -> bool:
        """Whether the explicit method is so clearly right that nothing is priced.

        A loss that is not quadratic may flatten sooner than stability limits the steps,
        or soon after.

        Args:
            log: Where `auto` stands.

        Returns:
            Whether to go on as before.
        """
        return log.name == EXPLICIT and not self.quadratic and log.limited < 2

    def choose(self, log: Log, seen: Seen, prices: Prices) -> str:
        """The solver to go on with.

        Args:
            log: Where `auto` stands; `tried` is changed in place.
            seen: What is seen.
            prices: What things cost.

        Returns:
            Its name; the one in use, unless another is clearly better.
        """
        stand = Stand(seen.t, self.end, log.rho, log.decay, self.rtol)
        names = [name for name in self.names if name not in log.failed]
        ahead = {name: forecast(name, stand, prices) for name in names}
        if log.name in ahead:
            ahead[log.name] *= self._correction(log, seen, stand, prices)
        best = min(ahead, key=lambda name: ahead[name])
        trial = EXPONENTIAL in names and not log.tried
        if trial and forecast_lazy(prices) < _CHEAP_TRIAL * ahead[best]:
            best, expected = EXPONENTIAL, forecast_lazy(prices)
        else:
            expected = ahead[best]
        now = ahead.get(log.name, math.inf)
        saved = (now - expected) * prices.evaluation
        if best == log.name or expected > _BETTER * now or saved < _WORTH:
            return log.name
        log.tried = log.tried or best == EXPONENTIAL
        return best

    def decides_alike(self, log: Log, prices: Prices) -> bool:
        """Whether all decisions of another run are those that this one would take.

        Args:
            log: What `auto` did in the other, such as one to an earlier end.
            prices: What things cost.

        Returns:
            Whether they are.
        """
        for kept in log.decisions:
            then, seen = Log(**copy.deepcopy(kept["log"])), Seen(*kept["seen"])
            if self.choose(then, seen, prices) != kept["chosen"]:
                return False
        return True

    def after_failure(self, log: Log) -> str:
        """The solver that takes over from one that has failed.

        Args:
            log: Changed in place: the solver in use is not taken again.

        Returns:
            Chebyshev after a kernel-space solver, else the explicit method.
        """
        log.failed.append(log.name)
        other = CHEBYSHEV in self.names and CHEBYSHEV not in log.failed
        return CHEBYSHEV if other else EXPLICIT

    def _correction(self, log: Log, seen: Seen, stand: Stand, prices: Prices) -> float:
        """Work since the last decision over what was forecast for it."""
        # Before 1/ρ the scale of time is not logarithmic yet.
        if log.t * stand.rho < 1 or seen.t <= log.t:
            return 1.0
        then = Stand(log.t, seen.t, stand.rho, 0.0, stand.rtol)
        since = [b - a for a, b in zip(log.done, seen.work, strict=True)]
        counts = dict(zip(Work._fields, since, strict=True))
        share = spent(log.name, counts, prices) / forecast(log.name, then, prices)
        return min(max(share, 1 / _TRUSTED), _TRUSTED)


def spent(name: str, work: dict[str, float], prices: Prices) -> float:
    """Work in evaluations of the vector field.

    Args:
        name: The solver that did it.
        work: Its counts, by the fields of `Work`.
        prices: What things cost.

    Returns:
        Evaluations.
    """
    factor = prices.cholesky if name == IMPLICIT else prices.eigen
    return (
        work["evaluations"]
        + _HVP * work["hvps"]
        + work["jacobians"]
        + prices.kernel * work["kernel_builds"]
        + factor * work["factorizations"]
    )
