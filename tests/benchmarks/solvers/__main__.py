"""Solvers of gradient flow, work against precision: one table.

    python -m tests.benchmarks.solvers [CASE ...] [--solvers NAME ...] [--rtol RTOL ...]
        [--out FILE.json] [--references DIR] [--repeat TIMES] [--limit SECONDS]
    python -m tests.benchmarks.solvers --growth [--solvers NAME ...] [--out FILE.json]
    python -m tests.benchmarks.solvers --saved [CASE ...] [--out FILE.json]
    python -m tests.benchmarks.solvers --picture FILE.png [--out FILE.json]

Trains on real digits, in float64, and compares every solver with a reference: Dopri8
with a relative tolerance of 1e-10 (1e-4 for ReLU networks, whose flow has kinks) where
that ends within `--reference-limit` seconds, else a method under test at a tight
tolerance, checked against another, as the table says (see `references`). Every row is
measured in a process of its own, compiled before it is timed. A run that takes longer
than about `--limit` seconds is stopped and its row says when; what an explicit method
takes to a given error is then continued in proportion to time, which "~" marks.

Rows are printed as they are measured and, at the end, what each solver takes to the
same achieved error. `--out` adds them to those that a file holds. The other forms
measure how work grows with λ_max·T; print the table of a file, or draw it. The file of
these is the one beside this folder unless `--out` names another.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from .cases import CASES, SOLVERS
from .growth import RANGES
from .measuring import Results, ask, measure_case, measure_solver
from .picture import draw
from .references import FOLDER, LIMIT
from .runs import LIMIT as RUN_LIMIT, REPEAT
from .table import growth_table, heading, line, runs_of, summary, table

SAVED = Path(__file__).parents[1] / "solvers.json"


def measure_all(given: argparse.Namespace, results: Results) -> None:
    """Measures the cases asked for, and prints their table.

    Args:
        given: The command line.
        results: Where measurements are kept.
    """
    for name in given.cases or CASES:
        known = results.kept["cases"].get(name)
        case = measure_case(name, given.references, given.reference_limit, known)
        results.add_case(name, case)
        print("\n".join(heading(name, case)), flush=True)
        if "failed" in case["costs"] or "failed" in case["reference"]:
            continue
        for solver in given.solvers or SOLVERS:
            for rtol in given.rtol or CASES[name].tolerances:
                row = measure_solver(
                    name,
                    solver,
                    rtol,
                    limit=given.limit,
                    repeat=given.repeat,
                    reference=given.references / case["reference"]["file"],
                )
                results.add_run("runs", row)
                found = runs_of(results.kept, name)[solver][-1]
                print(line(found), flush=True)
        print("\n".join(summary(runs_of(results.kept, name))), flush=True)


def measure_growth(given: argparse.Namespace, results: Results) -> None:
    """Measures how work grows with λ_max·T, and prints it.

    Args:
        given: The command line.
        results: Where measurements are kept.
    """
    for solver in given.solvers or RANGES:
        stiffness = RANGES.get(solver, RANGES["Chebyshev"])
        words = [solver, *stiffness, "--limit", given.limit, "--repeat", given.repeat]
        found = ask("growth", words, given.limit * len(stiffness))
        for row in found.get("rows", []):
            results.add_run("growth", row)
        if "failed" in found:
            print(f"{solver}: {found['failed']}", flush=True)
    print("\n".join(growth_table(results.kept["growth"])))


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints or draws.

    Args:
        words: The command line, if not that of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS)
    parser.add_argument("--rtol", nargs="+", type=float)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--references", type=Path, default=FOLDER)
    parser.add_argument("--reference-limit", type=float, default=LIMIT)
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--limit", type=float, default=RUN_LIMIT)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--saved", action="store_true")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args(words)
    if given.picture is not None or given.saved:
        kept = json.loads((given.out or SAVED).read_text("utf-8"))
        if given.picture is not None:
            draw(kept, given.picture)
        else:
            print("\n".join(table(kept, given.cases or [*CASES])))
            print("\n".join(growth_table(kept["growth"])))
    elif given.growth:
        measure_growth(given, Results(given.out))
    else:
        measure_all(given, Results(given.out))


if __name__ == "__main__":
    main()
