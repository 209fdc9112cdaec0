"""Runs that `test_kills` kills: one for every kind of state that a checkpoint holds."""

from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np

from ntkflow.flows import Descent, Gradient
from ntkflow.models import MLP
from ntkflow.problem import Problem
from ntkflow.simulate import _auto, _plan, _run, log_times, simulate
from ntkflow.simulate._forecast import CHEBYSHEV, EXPLICIT
from ntkflow.solvers import Chebyshev, Explicit, KernelExponential
from tests.simulate.problems import tiny


def auto() -> dict[str, Any]:
    """A stiff problem, on which `auto` changes its solver however little that saves."""
    _auto._WORTH = 0.0
    methods = {EXPLICIT: Explicit(dfx.Dopri5()), CHEBYSHEV: Chebyshev()}
    _plan._methods = lambda *_: methods
    base = tiny()
    problem = Problem(
        base.model,
        base.x,
        base.y,
        x_test=base.x_test,
        y_test=base.y_test,
        time_scale=1e3,
    )
    return {"problem": problem, "segment_steps": 20}


def exponential() -> dict[str, Any]:
    """Steps that reuse the decomposition of an earlier one."""
    return {
        "solver": KernelExponential(),
        "rtol": 1e-5,
        "atol": 1e-7,
    }


def descent() -> dict[str, Any]:
    """Updates on batches drawn with a key."""
    rows = jax.random.randint(jax.random.key(5), (400, 3), 0, 6)
    return {
        "ts": np.linspace(0.5, 7.9, 8),
        "flows": [Descent(0.02, batches=np.asarray(rows))],
        "segment_steps": 20,
    }


def ensemble() -> dict[str, Any]:
    """Three members that need other numbers of steps."""
    keys = jax.random.split(jax.random.key(0), 3)
    models = eqx.filter_vmap(lambda key: MLP(3, 2, width=8, depth=1, key=key))(keys)
    return {
        "ensemble": models,
        "solver": dfx.Tsit5(),
        "rtol": 1e-6,
        "atol": 1e-8,
        "segment_steps": 2,
    }


KINDS = {kind.__name__: kind for kind in (auto, exponential, descent, ensemble)}


def go_on(kind: str, checkpoint: Path, cache: Path, going: Any) -> None:
    """Begins a run, or goes on with it, in a process of its own.

    Args:
        kind: Which one.
        checkpoint: Its directory.
        cache: Where compiled programs are kept.
        going: An event, set when this process has kept a segment of its own.
    """
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Written after every segment and every reading, as longer runs are every second.
    _run._CHECKPOINT_SECONDS = -1.0
    common = {
        "problem": tiny(),
        "ts": log_times(1e-2, 4, 8),
        "flows": [Gradient()],
        "measures": (),
        "segment_steps": 1,
    }
    simulate(
        **(common | KINDS[kind]()),
        checkpoint=checkpoint,
        resume=True,
        progress=False,
        on_segment=lambda _: going.set(),
    )
