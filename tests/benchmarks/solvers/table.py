"""Measurements as text: every run, and what each solver takes to the same error."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .cases import BASELINES, CASES
from .growth import exponent

MATCHED = 1e-3
"""The achieved error at which solvers are compared."""

Row = dict[str, Any]

_COLUMNS = (
    "error",
    "/rtol",
    "steps",
    "rejected",
    "gradients",
    "hvps",
    "products",
    "kernels",
    "factored",
    "in grads",
    "cpu s",
    "wall s",
    "compile s",
    "MB",
)
_COMPARED = ("gradients", "equivalents", "cpu", "wall")


class Taken(NamedTuple):
    """What a solver takes to an error.

    Attributes:
        value: How much.
        mark: "≤" where its loosest tolerance is already more exact than asked, "~"
            where a run was stopped and its work is continued in proportion to time;
            only of explicit methods, whose steps stability bounds to the end.
    """

    value: float
    mark: str

    def __str__(self) -> str:
        digits = ",.0f" if self.value >= 100 else ".3g"
        return f"{self.mark}{self.value:{digits}}"


def equivalents(row: Row, costs: dict[str, Any]) -> float:
    """The work of a run in gradients.

    A Hessian-vector product counts as two gradients, of which it is the derivative. A
    product Jv or Jᵀg at fixed parameters counts as one: Jᵀg is a gradient but for the
    loss, Jv is cheaper (0.3 to 0.8, measured). Kernels and decompositions count by
    their measured CPU seconds: a Cholesky decomposition everywhere but in
    `KernelExponential`, which decomposes into eigenvectors, and once more than is
    counted: before its first step. Left out is the product Jv
    by which every attempted step of every solver measures its error.

    Args:
        row: A run.
        costs: Seconds of the units of work.

    Returns:
        The number.
    """
    unit = costs["gradient"]["cpu"]
    exponential = row["solver"] == "KernelExponential"
    decomposition = costs["eigh" if exponential else "cholesky"]["cpu"] / unit
    kernel = costs["kernel"]["cpu"] / unit
    return (
        row["gradients"]
        + 2 * row["hvps"]
        + row["jacobians"]
        + (row["kernel_builds"] + exponential) * kernel
        + (row["factorizations"] + exponential) * decomposition
    )


def compared_error(row: Row) -> float | None:
    """The error by which a run is judged: where errors grow, after aligning times.

    Args:
        row: A run.

    Returns:
        The error, or None of a run that reached no save time.
    """
    return row["error"] if row.get("aligned") is None else row["aligned"]


def taken(rows: Sequence[Row], quantity: str, error: float = MATCHED) -> Taken | None:
    """What one solver takes to an achieved error, on its work–precision curve.

    Between two tolerances whose errors enclose the one asked for, both logarithms are
    interpolated; a tolerance that is more exact and cheaper still is taken instead.

    Args:
        rows: The solver's runs of one case.
        quantity: What to compare.
        error: The achieved error.

    Returns:
        The quantity; None if no run is exact enough.
    """
    points: list[tuple[float, Taken]] = []
    for row in sorted(rows, key=lambda row: -row["rtol"]):
        achieved = None if "failed" in row else compared_error(row)
        if achieved is None or row["t_reached"] <= 0:
            continue
        done = row["t_reached"] / row["end"]
        mark = "" if row["reason"] == "completed" else "~"
        if mark and row["solver"] not in BASELINES:
            continue
        points.append((achieved, Taken(row[quantity] / done, mark)))
    found = [work for achieved, work in points if achieved <= error]
    if not found:
        return None
    if points[0][0] <= error:
        # No tolerance was loose enough to say what the error asked for takes.
        least = min(found, key=lambda work: work.value)
        return least if least.mark else Taken(least.value, "≤")
    for (above, cheap), (below, dear) in itertools.pairwise(points):
        if below <= error < above:
            x = np.log([below, above])
            y = np.log([dear.value, cheap.value])
            value = float(np.exp(np.interp(math.log(error), x, y)))
            found.append(Taken(value, cheap.mark or dear.mark))
    return min(found, key=lambda work: work.value)


def runs_of(kept: dict[str, Any], name: str) -> dict[str, list[Row]]:
    """The runs of a case by solver, with their work in gradients.

    Args:
        kept: Measurements.
        name: Name of the case.

    Returns:
        Rows by solver.
    """
    costs = kept["cases"][name]["costs"]
    found: dict[str, list[Row]] = {}
    for row in kept["runs"]:
        if row["case"] == name:
            whole = {} if "failed" in row else {"equivalents": equivalents(row, costs)}
            found.setdefault(row["solver"], []).append(row | whole)
    return found


def heading(name: str, case: dict[str, Any]) -> Iterator[str]:
    """What a case is, what it is compared with, and what its units of work take.

    Args:
        name: Name of the case.
        case: Its costs and reference.

    Yields:
        Lines.
    """
    costs, reference = case["costs"], case["reference"]
    yield ""
    for what, found in (("costs", costs), ("reference", reference)):
        if "failed" in found:
            yield f"{name}: no {what} ({found['failed']})"
            return
    start, end = (norm * reference["end"] for norm in reference["lambdas"])
    yield (
        f"{name}: N = {case['n']}, P = {costs['n_params']:,}, "
        f"λ_max·T = {start:.2g} at the start, {end:.2g} at the end"
    )
    said = f"  reference {reference['method']}"
    if not reference["method"].startswith("Dopri8"):
        check = reference["disagreement"]
        said += ", unchecked" if check is None else f", disputed by {check:.1e}"
        said += f" (Dopri8 would take {reference['predicted']:,.0f} s or more)"
    yield said
    unit = costs["gradient"]["cpu"]
    about = "about " if costs["extrapolated"] else ""
    yield (
        f"  a gradient takes {1e3 * unit:.2f} ms of CPU; in gradients: "
        f"hvp {costs['hvp']['cpu'] / unit:.1f}, Jv {costs['jvp']['cpu'] / unit:.1f}, "
        f"kernel {costs['kernel']['cpu'] / unit:.0f}, Cholesky {about}"
        f"{costs['cholesky']['cpu'] / unit:.0f}, eigenvectors {about}"
        f"{costs['eigh']['cpu'] / unit:.0f}"
    )
    yield f"  {'solver':<18}{'rtol':>7}" + "".join(f"{c:>10}" for c in _COLUMNS)


def line(row: Row) -> str:
    """One run.

    Args:
        row: The run.

    Returns:
        The line; of a run that did not end, with the reason.
    """
    begin = f"  {row['solver']:<18}{row['rtol']:>7.0e}"
    if "failed" in row:
        return f"{begin}  {row['failed']}"
    error = row["error"]
    cells = (
        "–" if error is None else f"{error:.1e}",
        "–" if error is None else f"{error / row['rtol']:.2f}",
        *(f"{row[k]:,}" for k in ("steps", "rejected", "gradients", "hvps")),
        *(f"{row[k]:,}" for k in ("jacobians", "kernel_builds", "factorizations")),
        f"{row['equivalents']:,.0f}",
        f"{row['cpu']:.3f}",
        f"{row['wall']:.3f}",
        f"{row['compile']:.1f}",
        f"{row['memory'] / 1e6:,.0f}",
    )
    said = ""
    if row["reason"] != "completed":
        share = row["t_reached"] / row["end"]
        why = "" if row["reason"] == "max_steps" else f": {row['reason']}"
        said = f"  stopped at t = {row['t_reached']:.3g}, {share:.1%} of T{why}"
    elif row["aligned"] is not None:
        said = f"  aligned {row['aligned']:.1e}, times moved by {row['shift']:.1e}"
    return begin + "".join(f"{cell:>10}" for cell in cells) + said


def summary(runs: dict[str, list[Row]]) -> Iterator[str]:
    """What each solver takes to the same error, and the gain over explicit ones.

    Args:
        runs: The runs of a case by solver.

    Yields:
        Lines.
    """
    work = {
        solver: {quantity: taken(rows, quantity) for quantity in _COMPARED}
        for solver, rows in runs.items()
    }

    def least(solvers: Sequence[str], quantity: str) -> Taken | None:
        found = [work[s][quantity] for s in solvers if s in work]
        return min((t for t in found if t), key=lambda t: t.value, default=None)

    others = ", ".join(BASELINES)
    yield f"  to an error of {MATCHED:g} (gain over the best of {others}):"
    for solver, quantities in work.items():
        cells = []
        for quantity, own in quantities.items():
            best = least(BASELINES, quantity)
            gain = f"({best.value / own.value:.3g}x)" if best and own else ""
            said = "not reached" if own is None else str(own)
            cells.append(f"{quantity} {said:>11} {gain:<8}")
        yield f"  {solver:<18}  " + "  ".join(cells)
    single = [solver for solver in work if solver != "auto"]
    if "auto" in work:
        ratios = []
        for quantity in ("equivalents", "cpu", "wall"):
            best, own = least(single, quantity), work["auto"][quantity]
            if best and own:
                ratios.append(f"{quantity} {own.value / best.value:.2f}")
        yield f"  auto over the best single choice: {', '.join(ratios) or '–'}"


def table(kept: dict[str, Any], names: Sequence[str] = tuple(CASES)) -> Iterator[str]:
    """Everything measured.

    Args:
        kept: Measurements.
        names: The cases wanted.

    Yields:
        Lines.
    """
    for name in names:
        if name not in kept["cases"]:
            continue
        runs = runs_of(kept, name)
        if not runs:
            continue
        yield from heading(name, kept["cases"][name])
        for rows in runs.values():
            yield from (line(r) for r in sorted(rows, key=lambda row: -row["rtol"]))
        yield from summary(runs)


def growth_table(rows: Sequence[Row]) -> Iterator[str]:
    """How work grows with λ_max·T.

    Args:
        rows: Runs at several values of it.

    Yields:
        Lines.
    """
    yield ""
    names = ("λ_max·T", "steps", "gradients", "wall s", "cpu s")
    yield f"{'':<18}" + "".join(f"{name:>11}" for name in names)
    for solver in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == solver]
        for row in sorted(own, key=lambda row: row["stiffness"]):
            stopped = "" if row["reason"] == "completed" else f"  {row['reason']}"
            yield (
                f"{solver:<18}{row['stiffness']:>11.0e}{row['steps']:>11,}"
                f"{row['gradients']:>11,}{row['wall']:>11.3f}{row['cpu']:>11.3f}{stopped}"
            )
        slopes = ", ".join(
            f"{quantity} {exponent(own, quantity):.2f}"
            for quantity in ("gradients", "wall", "cpu")
        )
        yield f"{solver:<18}  grows as (λ_max·T)^p, p = {slopes}"
