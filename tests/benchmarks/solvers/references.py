"""What runs are compared with; kept on disk, since it takes long.

    python -m tests.benchmarks.solvers.references CASE [--references DIR]
        [--limit SECONDS]

prints one line of JSON. The reference is Dopri8 with a relative tolerance of 1e-10, for
ReLU networks 1e-4, where that ends within the limit. It costs 13 gradients for every
5.2 of λ_max·T: at 1e6 and a millisecond a gradient 40 minutes. Beyond the limit it is
Rock4 at a tight tolerance, or else another method under test: whichever two of them
end, the first is the reference and its `disagreement` with the second is kept and
printed. Errors below it mean nothing.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import ntkflow as nf

from ..measure import report
from .bounded import within
from .cases import CASES, SAVES, Case
from .costs import cost_of
from .errors import Outputs, relative
from .stiffness import gauss_newton_norm

FOLDER = Path(tempfile.gettempdir()) / "ntkflow-benchmarks"
LIMIT = 300.0
_DOPRI8 = 13 / 5.2
"""Gradients of Dopri8 for each unit of λ_max·T: those of a step over its reach."""
_FINE = 1000
"""Times that resolve a solution whose errors are aligned."""

_STAND_INS = (
    ("Rock4", 1e-9),
    ("Chebyshev", 1e-6),
    ("KernelExponential", 1e-8),
    ("KernelImplicit", 1e-6),
)
"""Where Dopri8 takes too long: the first that ends, checked by the second."""


class Reference(NamedTuple):
    """Outputs that a run should have.

    Attributes:
        end: T, the last save time.
        size: Root mean square of the targets; one for labels.
        lambdas: λ_max, of the Gauss–Newton matrix times the time scale, at 0 and T.
        times: Times of the outputs; the save times of runs are among them.
        outputs: The outputs.
        method: What computed them.
        disagreement: The error of the check against them, on the scale of errors; None
            without a check.
        seconds: What they took.
        predicted: Seconds of Dopri8, from λ_max at the start alone.
    """

    end: float
    size: float
    lambdas: tuple[float, float]
    times: np.ndarray
    outputs: Outputs
    method: str
    disagreement: float | None
    seconds: float
    predicted: float


def save_times(end: float) -> np.ndarray:
    """When runs are read.

    Args:
        end: The last time.

    Returns:
        Times over three decades.
    """
    return nf.log_times(1e-3 * end, end, SAVES)


def outputs_of(run: nf.Trajectory) -> Outputs:
    """Training and test outputs of a run.

    Args:
        run: The run.

    Returns:
        Arrays, time first.
    """
    f_train, f_test = run.dataset["f_train"], run.dataset["f_test"]
    return np.asarray(f_train)[0], np.asarray(f_test)[0]


def _digest(problem: nf.Problem, case: Case) -> str:
    """Tells problems apart, so that a reference is not taken for another's."""
    parts = [*jtu.tree_leaves(eqx.filter(problem, eqx.is_array))]
    parts += [problem.outputs(problem.params, problem.x)]
    kind = case.stiffness, case.plateaus, case.tight, SAVES
    digest = hashlib.sha256(repr(kind).encode())
    digest.update(type(problem.loss).__name__.encode())
    for part in parts:
        digest.update(np.asarray(part).tobytes())
    return digest.hexdigest()[:16]


def _ended(
    problem: nf.Problem, times: np.ndarray, solver: Any, rtol: float, limit: float
) -> nf.Trajectory | None:
    """A run to the last time, or None where the limit does not allow it."""
    run = within(problem, times, solver, rtol, limit).run
    return run if run.reason is nf.Reason.COMPLETED else None


def compute(case: Case, limit: float) -> Reference:
    """Integrates a case as exactly as can be.

    Args:
        case: The case.
        limit: About how many seconds Dopri8 may take.

    Returns:
        The reference.

    Raises:
        RuntimeError: If no method ends within the limit.
    """
    problem, began = case.build(), time.perf_counter()
    first = gauss_newton_norm(problem)
    end = case.stiffness / first
    times = save_times(end)
    if case.plateaus:
        times = np.union1d(times, np.linspace(end / _FINE, end, _FINE))
    y = problem.y
    labels = not jnp.issubdtype(y.dtype, jnp.inexact)
    size = 1.0 if labels else float(jnp.sqrt(jnp.mean(y**2)))
    gradient = cost_of(lambda p: problem.gradient(p), problem.params, seconds=0.5)
    predicted = _DOPRI8 * case.stiffness * gradient["wall"]
    found: list[tuple[str, nf.Trajectory]] = []
    if predicted < limit:
        run = _ended(problem, times, dfx.Dopri8(), case.tight, 2 * limit)
        found += [] if run is None else [(f"Dopri8 {case.tight:g}", run)]
    wanted = 1 if found else 2
    for name, rtol in _STAND_INS:
        if len(found) == wanted:
            break
        rtol = max(rtol, case.tight)
        run = _ended(problem, times, getattr(nf.solvers, name)(), rtol, limit)
        if run is not None:
            found.append((f"{name} {rtol:g}", run))
    if not found:
        raise RuntimeError(f"No reference within {limit:g} s: raise the limit.")
    outputs = [outputs_of(run) for _, run in found]
    disagreement = None
    if len(outputs) == 2:
        disagreement = float(np.max(relative(outputs[1], outputs[0], size)))
    trained = problem.with_parts(
        eqx.partition(found[0][1].model, problem.trainable)[0], problem.static
    )
    return Reference(
        end,
        size,
        (first, gauss_newton_norm(trained)),
        times,
        outputs[0],
        found[0][0],
        disagreement,
        time.perf_counter() - began,
        predicted,
    )


def write(path: Path, reference: Reference) -> None:
    """Keeps a reference.

    Args:
        path: A file; complete or not there.
        reference: The reference.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = reference._asdict()
    parts["disagreement"] = np.asarray(reference.disagreement, float)
    parts["f_train"], parts["f_test"] = parts.pop("outputs")
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **parts)
    unfinished.replace(path)


def read(path: Path) -> Reference:
    """Reads a reference.

    Args:
        path: What `write` wrote.

    Returns:
        The reference.
    """
    with np.load(path) as parts:
        return Reference(
            float(parts["end"]),
            float(parts["size"]),
            (float(parts["lambdas"][0]), float(parts["lambdas"][1])),
            parts["times"],
            (parts["f_train"], parts["f_test"]),
            str(parts["method"]),
            None if np.isnan(parts["disagreement"]) else float(parts["disagreement"]),
            float(parts["seconds"]),
            float(parts["predicted"]),
        )


def reference_of(name: str, case: Case, folder: Path, limit: float) -> Path:
    """Where the reference of a case is; it is computed if it is not there.

    Args:
        name: Name of the case.
        case: The case.
        folder: Where references are kept.
        limit: About how many seconds Dopri8 may take.

    Returns:
        The file.
    """
    path = folder / f"{name}-{_digest(case.build(), case)}.npz"
    if not path.exists():
        write(path, compute(case, limit))
    return path


def main() -> None:
    """Computes the reference of one case, or finds it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--references", type=Path, default=FOLDER)
    parser.add_argument("--limit", type=float, default=LIMIT)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    path = reference_of(given.case, CASES[given.case], given.references, given.limit)
    reference = read(path)
    report({
        "file": path.name,
        "end": reference.end,
        "lambdas": reference.lambdas,
        "method": reference.method,
        "disagreement": reference.disagreement,
        "seconds": reference.seconds,
        "predicted": reference.predicted,
    })


if __name__ == "__main__":
    main()
