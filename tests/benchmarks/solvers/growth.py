"""How the work of one solver grows with λ_max·T.

    python -m tests.benchmarks.solvers.growth SOLVER λT... [--repeat TIMES]
        [--limit SECONDS]

prints one line of JSON. One case, one tolerance, one process: compiled once.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..measure import report
from .cases import CASES, SOLVERS
from .runs import LIMIT, REPEAT, measure_run

CASE = "tanh-64"
RTOL = 1e-3
RANGES: dict[str, tuple[float, ...]] = {
    "Tsit5": (1e3, 3e3, 1e4, 3e4),
    **dict.fromkeys(
        ("Chebyshev", "KernelImplicit", "KernelExponential"), (1e4, 3e4, 1e5, 3e5, 1e6)
    ),
}
"""Values of λ_max·T by solver."""


def exponent(rows: Sequence[dict[str, Any]], quantity: str) -> float:
    """The slope p of a quantity ∝ (λ_max·T)ᵖ, by least squares of logarithms.

    Args:
        rows: Runs; those that were stopped are left out.
        quantity: Name of the quantity.

    Returns:
        The slope; NaN of fewer than two runs.
    """
    ended = [row for row in rows if row["reason"] == "completed"]
    if len(ended) < 2:
        return float("nan")
    x = np.log([row["stiffness"] for row in ended])
    y = np.log([row[quantity] for row in ended])
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    """Prints the runs of one solver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("solver", choices=SOLVERS)
    parser.add_argument("stiffness", nargs="+", type=float)
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--limit", type=float, default=LIMIT)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for stiffness in given.stiffness:
        case = CASES[CASE]._replace(stiffness=stiffness)
        found = measure_run(
            case, given.solver, RTOL, None, limit=given.limit, repeat=given.repeat
        )
        rows.append({"case": CASE, "stiffness": stiffness, **found})
    report({"rows": rows})


if __name__ == "__main__":
    main()
