"""Kernels of Neural ODEs by every route: one table.

    python -m tests.benchmarks.neural_odes [CASE ...] [--routes ROUTE ...]
        [--out FILE.json]

A case is STATE-WIDTH-EXAMPLES-OUTPUTS: a field of two hidden layers, tolerances at
their default (1e-8), float64. Every figure comes from a process of its own; times are
the least of several runs after the first, which compiles. "error" is that of the
kernel, relative to one at a tolerance of 1e-11, in the Frobenius norm.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import ntkflow as nf

from .measure import measure, report

CASES = (
    "2-32-16-1",
    "2-128-64-1",
    "4-64-64-2",
    "8-128-64-10",
    "4-512-16-1",
    "16-32-256-1",
    "16-512-64-10",
)
"""Corners of states 2 to 16, widths 32 to 512, 16 to 256 examples, 1 to 10 outputs."""

INPUTS = 4
LIMIT = 240.0
"""Seconds after which a route is given up."""


def network(case: str, **settings: Any) -> nf.models.NeuralODE:
    """The model of a case.

    Args:
        case: Its name.
        settings: Those of its depth.

    Returns:
        The model, always with the same weights.
    """
    state, width, _, outputs = (int(part) for part in case.split("-"))
    keys = jax.random.split(jax.random.key(0), 3)
    return nf.models.NeuralODE(
        nf.models.MLPField(state, width, depth=2, key=keys[0], w_std=1.5),
        encoder=nf.models.Dense(INPUTS, state, key=keys[1]),
        readout=nf.models.Dense(state, outputs, key=keys[2]),
        depth=nf.models.Depth(1.0, **settings),
    )


def kernel_by(method: str) -> Callable[[Any, Array], Array]:
    """`nf.ntk` as it is called, the count of steps included."""
    return lambda model, x: nf.ntk(model, x, method=method)


def kernel_under_jit(model: Any, x: Array) -> Array:
    """`nf.ntk` where values are not known: the solve's own adjoint."""
    return _jitted(model, x)


@eqx.filter_jit
def _jitted(model: Any, x: Array) -> Array:
    return nf.ntk(model, x, method="contraction")


@eqx.filter_jit
def kernel_by_sensitivities(model: Any, x: Array) -> Array:
    """J Jᵀ of the textbook's equations, forward."""
    solve = nf.flows.Sensitivity("forward")
    jac = jax.lax.map(lambda xi: solve.jacobian(model, xi), x, batch_size=16)
    rows = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jac)]
    return sum(jnp.einsum("ikp,jkp->ij", r, r) for r in rows)


ROUTES: dict[str, tuple[Callable[[Any, Array], Array], dict[str, Any]]] = {
    "auto": (kernel_by("auto"), {}),
    "structured": (kernel_by("structured"), {}),
    "contraction": (kernel_by("contraction"), {}),
    "vector products": (kernel_by("vector_products"), {}),
    "reverse": (kernel_under_jit, {}),
    "direct": (kernel_under_jit, {"adjoint": diffrax.DirectAdjoint()}),
    "adjoint": (kernel_under_jit, {"adjoint": diffrax.BacksolveAdjoint()}),
    "forward": (kernel_under_jit, {"adjoint": diffrax.ForwardMode()}),
    "sensitivities": (kernel_by_sensitivities, {}),
}
"""How, and with which settings of the depth."""


def measure_route(case: str, route: str) -> dict[str, Any]:
    """Times one route in this process.

    Args:
        case: The case.
        route: The route.

    Returns:
        What `measure` returns, and the error.
    """
    call, settings = ROUTES[route]
    model = network(case, **settings)
    x = jax.random.normal(jax.random.key(1), (int(case.split("-")[2]), INPUTS))
    measured = measure(lambda: lambda: jax.block_until_ready(call(model, x)), 3.0)
    exact = nf.ntk(network(case, solver=diffrax.Dopri8(), rtol=1e-11, atol=1e-11), x)
    found = call(model, x)
    measured["error"] = float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))
    measured["method"] = nf.kernels.plan(model, x).method
    return measured


def ask(case: str, route: str) -> dict[str, Any]:
    """Times one route in a process of its own.

    Args:
        case: The case.
        route: The route.

    Returns:
        What was measured; `{"failed": ...}` if nothing was.
    """
    command = [sys.executable, "-m", __spec__.name, "--one", case, route]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {LIMIT:g} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:60]}
    return json.loads(done.stdout.splitlines()[-1])


def line(route: str, found: dict[str, Any]) -> str:
    """One line of the table.

    Args:
        route: The route.
        found: What was measured.

    Returns:
        The line.
    """
    if "failed" in found:
        return f"  {route:<16} {found['failed']}"
    return (
        f"  {route:<16}{1e3 * found['cpu']:>10.1f}{1e3 * found['wall']:>10.1f}"
        f"{found['memory'] / 1e6:>10.0f}{found['compile']:>10.1f}"
        f"{found['error']:>10.1e}"
    )


def main() -> None:
    """Times every route of every case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=[*ROUTES])
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if given.one:
        report(measure_route(*given.one))
        return
    kept = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    columns = ("cpu ms", "wall ms", "memory MB", "compile s", "error")
    print(f"{'':<18}" + "".join(f"{name:>10}" for name in columns))
    for case in given.cases or CASES:
        print(case)
        for route in given.routes:
            found = ask(case, route)
            kept.setdefault(case, {})[route] = found
            print(line(route, found), flush=True)
            if given.out:
                given.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
