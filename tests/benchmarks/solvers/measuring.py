"""Every measurement in a process of its own, and the file that keeps them."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .cases import CASES

_PACKAGES = ("jax", "diffrax", "equinox", "numpy")
_PATIENCE = (5.0, 300.0)
"""A process is ended after this many limits and seconds: a single step may be too
long, which no number of steps bounds."""


class Results:
    """Measurements, kept on disk as they are made.

    Args:
        path: A JSON file, added to if it is there; None to keep nothing.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self.kept: dict[str, Any] = {"cases": {}, "runs": [], "growth": []}
        if path is not None and path.exists():
            self.kept = json.loads(path.read_text("utf-8"))

    def add_case(self, name: str, found: dict[str, Any]) -> None:
        """Keeps costs and reference of a case.

        Args:
            name: Name of the case.
            found: What was measured.
        """
        self.kept["cases"][name] = found
        self._write()

    def add_run(self, kind: str, found: dict[str, Any]) -> None:
        """Keeps a run, in place of one of the same case, solver and settings.

        Args:
            kind: `"runs"` or `"growth"`.
            found: What was measured.
        """
        keys = ("case", "solver", "rtol", "stiffness")
        names = [found.get(key) for key in keys]
        others = [r for r in self.kept[kind] if [r.get(k) for k in keys] != names]
        self.kept[kind] = [*others, found]
        self._write()

    def _write(self) -> None:
        self.kept["machine"] = {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        }
        if self._path is None:
            return
        rows = {
            kind: ",\n".join(json.dumps(_rounded(run)) for run in self.kept[kind])
            for kind in ("runs", "growth")
        }
        lines = [
            f'"machine": {json.dumps(self.kept["machine"])}',
            f'"cases": {json.dumps(_rounded(self.kept["cases"]), indent=1)}',
            *(f'"{kind}": [\n{text}\n]' for kind, text in rows.items()),
        ]
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
        unfinished.replace(self._path)


def _rounded(value: Any) -> Any:
    """Floats to five digits: more are noise."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def ask(what: str, words: Sequence[Any], limit: float) -> dict[str, Any]:
    """Runs a measuring process.

    Args:
        what: Name of its module, beside this one.
        words: Its command line.
        limit: Seconds that a run in it may take.

    Returns:
        What it measured; under `"failed"`, why it did not.
    """
    module = f"{__package__}.{what}"
    patience = _PATIENCE[0] * limit + _PATIENCE[1]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not a step within {patience:g} s"}
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        errors = [line for line in said if "Error" in line]
        return {"failed": (errors or said)[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def measure_case(
    name: str, folder: Path, reference_limit: float, known: dict[str, Any] | None
) -> dict[str, Any]:
    """Costs of the units of work, and the reference.

    Args:
        name: Name of the case.
        folder: Where references are kept.
        reference_limit: About how many seconds Dopri8 may take.
        known: What was measured before; its costs are kept.

    Returns:
        Both, and what the case is.
    """
    words = [name, "--references", folder, "--limit", reference_limit]
    costs = known["costs"] if known else {"failed": "not measured"}
    if "failed" in costs:
        costs = ask("costs", [name], reference_limit)
    return {
        "stiffness": CASES[name].stiffness,
        "n": CASES[name].n,
        "costs": costs,
        "reference": ask("references", words, 5 * reference_limit),
    }


def measure_solver(
    name: str,
    solver: str,
    rtol: float,
    *,
    limit: float,
    repeat: int,
    reference: str,
) -> dict[str, Any]:
    """One run, or why there is none.

    Args:
        name: Name of the case.
        solver: Name of the solver.
        rtol: Relative tolerance.
        limit: Seconds after which a run is stopped.
        repeat: Runs to take the median of.
        reference: The reference's file.

    Returns:
        A row.
    """
    words = [name, solver, rtol, "--limit", limit, "--repeat", repeat]
    words += ["--reference", reference]
    row = {"case": name, "solver": solver, "rtol": rtol}
    return row | ask("runs", words, limit)
