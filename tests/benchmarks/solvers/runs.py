"""One solver at one tolerance on one case, measured in this process.

    python -m tests.benchmarks.solvers.runs CASE SOLVER RTOL --reference FILE
        [--repeat TIMES] [--limit SECONDS]

FILE is of `references`. Prints one line of JSON. Seconds are those of the whole of
`ntkflow.simulate`, compiled: medians over `repeat` runs, or as many as the limit has
room for. `compile` is the excess of the very first call over its repetition. Memory is
what the process grows by at its peak beyond what building the problem took, compilation
included.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ntkflow as nf

from ..measure import peak_bytes, report
from .bounded import timed, within
from .cases import CASES, SOLVERS, Case
from .errors import errors
from .references import outputs_of, read, save_times
from .stiffness import gauss_newton_norm

LIMIT = 60.0
REPEAT = 5

WORK = (
    "steps",
    "rejected",
    "gradients",
    "hvps",
    "jacobians",
    "kernel_builds",
    "factorizations",
    "refused",
    "t_reached",
)
"""What is kept of a run's statistics."""


def error_of(case: Case, run: nf.Trajectory, path: Path) -> dict[str, Any]:
    """Compares a run with the reference at the save times it reached.

    Args:
        case: The case.
        run: The run.
        path: The reference's file.

    Returns:
        The errors; none of a run that reached no save time.
    """
    reference, times = read(path), np.asarray(run.dataset["time"])
    if len(times) == 0:
        return {"error": None, "aligned": None, "shift": None}
    found = errors(
        times,
        outputs_of(run),
        reference.times,
        reference.outputs,
        reference.size,
        align=case.plateaus,
    )
    return {"error": found.largest, "aligned": found.aligned, "shift": found.shift}


def measure_run(
    case: Case,
    solver: str,
    rtol: float,
    reference: Path | None,
    *,
    limit: float,
    repeat: int,
) -> dict[str, Any]:
    """Measures one solver at one tolerance.

    Args:
        case: The case.
        solver: Name of the solver.
        rtol: Relative tolerance.
        reference: The reference's file; None if no error is asked for.
        limit: Seconds after which a run is stopped.
        repeat: Runs to take the median of.

    Returns:
        Work, errors, seconds and bytes.
    """
    problem = case.build()
    if reference is None:
        end = case.stiffness / gauss_newton_norm(problem)
    else:
        end = read(reference).end
    before = peak_bytes()
    found = within(problem, save_times(end), SOLVERS[solver](), rtol, limit)
    memory = peak_bytes() - before
    walls, cpus = [found.wall], [found.cpu]
    while len(walls) < repeat and sum(walls) + found.wall < limit:
        _, wall, cpu = timed(found.again)
        walls.append(wall)
        cpus.append(cpu)
    stats = found.run.stats
    none = {"error": None, "aligned": None, "shift": None}
    return {
        "solver": solver,
        "rtol": rtol,
        "end": end,
        "reason": found.run.reason.name.lower(),
        **{key: stats[key] for key in WORK},
        "said": stats["solver"],
        **(none if reference is None else error_of(case, found.run, reference)),
        "wall": float(np.median(walls)),
        "cpu": float(np.median(cpus)),
        "runs": len(walls),
        "compile": max(found.cold - found.warm, 0.0),
        "memory": memory,
    }


def main() -> None:
    """Prints the measurements of one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("solver", choices=SOLVERS)
    parser.add_argument("rtol", type=float)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--limit", type=float, default=LIMIT)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = measure_run(
        CASES[given.case],
        given.solver,
        given.rtol,
        given.reference,
        limit=given.limit,
        repeat=given.repeat,
    )
    report({"case": given.case, **found})


if __name__ == "__main__":
    main()
