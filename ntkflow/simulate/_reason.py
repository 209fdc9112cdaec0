"""Why a run ended, in ntkflow's own words."""

import enum
from collections.abc import Iterable, Sequence

import numpy as np


class Stepping(enum.Enum):
    """What chooses the steps of a solve, and so what can be changed about them."""

    ADAPTIVE = enum.auto()
    FIXED = enum.auto()
    UPDATES = enum.auto()


class Reason(enum.IntEnum):
    """Why integration ended; `run.reason`.

    diffrax's own result cannot be extended by a controller, so the cause travels as
    this code in the controller's state and is read back by the host.
    """

    RUNNING = 0
    COMPLETED = 1
    EVENT = 2
    MAX_STEPS = 3
    DIVERGED = 4
    STEP_UNDERFLOW = 5
    SPECTRUM = 6
    FACTORIZATION = 7
    STAGES = 8
    ACCURACY = 9

    @property
    def failed(self) -> bool:
        """Whether the run ended before it should have."""
        complete = {Reason.COMPLETED, Reason.EVENT, Reason.ACCURACY}
        return self not in {Reason.RUNNING, *complete}

    @property
    def message(self) -> str:
        """What happened, and what to do about it."""
        return self.explain(Stepping.ADAPTIVE)

    def explain(self, stepping: Stepping) -> str:
        """What happened, and what to do about it where steps are chosen so.

        Args:
            stepping: What chooses the steps.

        Returns:
            Sentences.
        """
        return _MESSAGES[self] + _REMEDIES.get((self, stepping), "")


def worst_reason(reasons: Iterable[Reason]) -> Reason:
    """The reason of several solves or ensemble members together.

    Args:
        reasons: Why each has ended, at least one.

    Returns:
        A failure if there is one, else the highest code.
    """
    return max(reasons, key=lambda reason: (reason.failed, reason))


_MESSAGES = {
    Reason.RUNNING: "The run has not ended.",
    Reason.COMPLETED: "The run reached its last save time.",
    Reason.EVENT: "A stop event occurred.",
    Reason.MAX_STEPS: (
        "The solver took max_steps steps before the last save time. Raise max_steps, "
        "or save up to an earlier time."
    ),
    Reason.DIVERGED: (
        "The flow diverged: its loss grew a million-fold, or its state became infinite "
        "or NaN."
    ),
    Reason.STEP_UNDERFLOW: (
        "The step fell below the resolution of time: the flow blows up in finite time, "
        "its right-hand side is not finite, or the tolerances are below what the dtype "
        "can hold."
    ),
    Reason.SPECTRUM: (
        "Power iteration on the flow's Jacobian did not settle, so no stable number of "
        "stages is known: its spectrum may be complex or its leading "
        "eigenvalues too close. Raise max_products, or use diffrax.Tsit5()."
    ),
    Reason.FACTORIZATION: (
        "The kernel could not be decomposed: it is not finite, or LAPACK did not "
        "converge. Use nf.solvers.Chebyshev(), which needs no kernel."
    ),
    Reason.STAGES: (
        "The solver took max_steps steps, most of them refused because they needed "
        "more stages than max_stages allows. Raise it: nf.solvers.Chebyshev("
        "max_stages=...)."
    ),
    Reason.ACCURACY: (
        "The run reached its last save time, but its outputs may be wrong by more than "
        "three times the tolerance: see f_train_error. Tighten rtol, or take "
        'solver="auto", which repeats a run of a smooth model that misses it where the '
        "dtype allows a tighter one."
    ),
}

_REMEDIES = {
    (Reason.MAX_STEPS, Stepping.ADAPTIVE): (
        " Or loosen rtol and atol: explicit solvers need about λ_max·t/3.5 steps, "
        "where λ_max is the kernel's largest eigenvalue."
    ),
    (Reason.MAX_STEPS, Stepping.FIXED): " Or raise dt0, the length of a step.",
    (Reason.MAX_STEPS, Stepping.UPDATES): " Each update of descent is one step.",
    (Reason.DIVERGED, Stepping.ADAPTIVE): (
        " Tighten rtol and atol, or look for a loss that is not bounded below; "
        "nf.solvers.Descent needs a lower learning_rate, a fixed step a lower dt0."
    ),
    (Reason.DIVERGED, Stepping.FIXED): (
        " A fixed step may be beyond the limit of stability, 2/(cλ_max) for Euler's "
        "method: lower dt0, or use an adaptive controller."
    ),
    (Reason.DIVERGED, Stepping.UPDATES): (
        " Lower learning_rate: where the kernel is constant descent is stable below "
        "2/(cλ_max), with momentum β below 2(1 + β)/(cλ_max); a network whose kernel "
        "gives way comes back from rates somewhat above."
    ),
}
"""What to do, where it depends on what chooses the steps."""


def worst(codes: np.ndarray) -> Reason:
    """The reason of several lanes together: a failure if there is one.

    Args:
        codes: Codes of `Reason`, lane by lane.

    Returns:
        RUNNING while one lane runs, else that of `worst_reason`.
    """
    if (codes == Reason.RUNNING).any():
        return Reason.RUNNING
    return worst_reason(Reason(int(code)) for code in codes)


def reasons_of_members(codes: Sequence[np.ndarray]) -> list[str]:
    """Why each member of an ensemble has ended.

    Args:
        codes: Codes of `Reason` of every solve, member by member.

    Returns:
        One name a member: a failure if one of its solves has failed.
    """
    return [worst(member).name.lower() for member in np.stack(codes).T]
