"""A solve in depth as a loop of known length: its steps are found first, then repeated.

A kernel is the derivative of the discrete solve, its steps held. Which steps those are
takes no derivative; once they are known the solve is a plain `scan` over them. It can
be differentiated in every mode, and shows the uses of every weight to those who read
it: a solver's own loop, of unknown length, hides them.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._precision import at_full_precision
from ._depth import Depth, State
from ._solve_failure import refuse_failure

_LOCK: Final = threading.Lock()
_SEEN: Final[list["Steps"]] = []


class Steps(NamedTuple):
    """How long the loops of a solve are.

    Attributes:
        accepted: Steps that are repeated.
        attempted: Steps that are tried to find them.
    """

    accepted: int
    attempted: int


def replayed(model: PyTree, steps: Steps) -> PyTree:
    """The same model with every solve that can be repeated step by step.

    Values and derivatives are those of the model, up to rounding. Depths that end at
    an event, or whose solver is not an explicit Runge–Kutta method, stay as they are.

    Args:
        model: Any module.
        steps: Their numbers, at least, as `find_steps` found them. A solve that needs
            more of them fails.

    Returns:
        The model.

    Verified by: tests/models/test_replay.py::test_replay_is_the_solve
    """
    return _changed(model, lambda depth: _Replay(depth, steps))


def is_replayable(model: PyTree) -> bool:
    """Whether a model has a solve that can be repeated step by step.

    Args:
        model: Any module.

    Returns:
        Whether it has a `Depth` of an explicit Runge–Kutta method that is to be
        differentiated as it is discretized, and ends at no event.
    """
    nodes = jtu.tree_leaves(model, is_leaf=_is_depth)
    return any(_is_depth(node) and _tableau(node) is not None for node in nodes)


def find_steps(evaluate: Callable[..., Any], model: PyTree, *rest: Any) -> Steps:
    """How many steps the solves inside a model take, at most.

    Args:
        evaluate: Evaluates the model at all examples, as `evaluate(model, *rest)`; a
            function of a module, as it is compiled once for equal calls.
        model: A model with solves that are replayable; no tracers.
        rest: Whatever else is to be passed on.

    Returns:
        The most steps of any solve, and a few more: not every change of a step should
        compile anew, and another grouping of examples may round differently.
    """
    with _LOCK:
        _SEEN.clear()
        jax.block_until_ready(_counted(evaluate, model, *rest))
        jax.effects_barrier()
        seen = [*_SEEN, Steps(1, 1)]
    return Steps(*(_rounded(max(numbers)) for numbers in zip(*seen, strict=True)))


def _rounded(number: int) -> int:
    unit = 1 << max(number.bit_length() - 4, 0)
    return (number // unit + 1) * unit


@eqx.filter_jit
@at_full_precision
def _counted(evaluate: Callable[..., Any], model: PyTree, *rest: Any) -> PyTree[Array]:
    return evaluate(_changed(model, _Counting), *rest)


@jax.custom_batching.custom_vmap
def _tell(accepted: Array, attempted: Array) -> Array:
    jax.debug.callback(_note, accepted, attempted)
    return accepted


@_tell.def_vmap
def _tell_most(size: int, batched: Any, *steps: Array) -> tuple[Array, bool]:
    """A callback for every example would take ten times as long as the solve."""
    most = (jnp.max(number) for number in steps)
    return jnp.broadcast_to(_tell(*most), (size,)), True


def _note(accepted: Any, attempted: Any) -> None:
    _SEEN.append(Steps(int(accepted), int(attempted)))


def _is_depth(node: Any) -> bool:
    return isinstance(node, Depth)


def _changed(model: PyTree, change: Callable[[Depth], Any]) -> PyTree:
    def changed(node: Any) -> Any:
        can = _is_depth(node) and _tableau(node) is not None
        return change(node) if can else node

    return jtu.tree_map(changed, model, is_leaf=_is_depth)


class _Tableau(NamedTuple):
    """An explicit Runge–Kutta method: its stages but for those that only estimate."""

    nodes: tuple[float, ...]
    rows: tuple[np.ndarray, ...]
    weights: np.ndarray


def _tableau(depth: Depth) -> _Tableau | None:
    """The method of a solve that can be repeated, or None."""
    differentiated = diffrax.RecursiveCheckpointAdjoint, diffrax.DirectAdjoint
    controller = None if depth.controller is None else depth.controller.tree
    if (
        not isinstance(depth.adjoint, differentiated)
        or depth.event is not None
        # It steps over jumps that only it knows of.
        or isinstance(controller, diffrax.ClipStepSizeController)
    ):
        return None
    if isinstance(depth.solver, diffrax.Euler):
        return _Tableau((0.0,), (np.zeros(0),), np.ones(1))
    if not isinstance(depth.solver, diffrax.AbstractERK):
        return None
    tableau = depth.solver.tableau
    if not isinstance(tableau, diffrax.ButcherTableau):
        return None
    rows = (np.zeros(0), *tableau.a_lower)
    last = int(np.flatnonzero(tableau.b_sol)[-1]) + 1
    return _Tableau(
        (0.0, *tableau.c.tolist())[:last], rows[:last], tableau.b_sol[:last]
    )


@final
class _Counting(eqx.Module):
    """A solve that tells how many steps it takes."""

    depth: Depth

    def __call__(self, field: Callable[..., Any], z0: State) -> State:
        return jtu.tree_map(lambda z: z[-1], self.told(field, z0, None))

    def along(self, field: Callable[..., Any], z0: State, ts: Any) -> State:
        return self.told(field, z0, self.depth.reached(ts))

    def told(self, field: Callable[..., Any], z0: State, ts: Any) -> State:
        solution = self.depth.solve(field, z0, ts)
        stats = solution.stats
        _tell(stats["num_accepted_steps"], stats["num_steps"])
        return refuse_failure(solution, self.depth.max_steps).ys


@final
class _Replay(eqx.Module):
    """A solve that finds its steps without derivatives, and repeats them in a scan."""

    depth: Depth
    steps: Steps = eqx.field(static=True)

    def __call__(self, field: Callable[..., Any], z0: State) -> State:
        ends = self.find(field, z0, None)
        z, _ = self.repeat(field, z0, ends)
        return z

    def along(self, field: Callable[..., Any], z0: State, ts: Any) -> State:
        if not self.depth.is_adaptive:
            return self.depth.along(field, z0, ts)  # interpolated
        ts = self.depth.reached(ts)
        ends = self.find(field, z0, ts)
        _, states = self.repeat(field, z0, ends)
        ts = jnp.asarray(ts, ends.dtype)
        at = jnp.argmin(jnp.abs(ends[:, None] - ts[None]), axis=0)
        return jtu.tree_map(lambda z: z[at], states)

    def find(self, field: Callable[..., Any], z0: State, ts: Any) -> Float[Array, " S"]:
        """Where the accepted steps end; those there are none of, at t1."""
        arrays, rest = eqx.partition(field, eqx.is_inexact_array)
        arrays, z0 = jax.lax.stop_gradient((arrays, z0))
        solution = self.depth.solve(
            eqx.combine(arrays, rest), z0, ts, recorded=self.steps.attempted
        )
        unfinished = solution.stats["num_accepted_steps"] > self.steps.accepted
        result = diffrax.RESULTS.where(
            unfinished, diffrax.RESULTS.max_steps_reached, solution.result
        )
        solution = eqx.tree_at(lambda s: s.result, solution, result)
        found = refuse_failure(solution, min(self.steps)).ts
        assert found is not None
        return jnp.minimum(found[: self.steps.accepted], self.depth.t1)

    def repeat(
        self, field: Callable[..., Any], z0: State, ends: Float[Array, " S"]
    ) -> tuple[State, State]:
        """The state after the last step, and after every one."""
        tableau = _tableau(self.depth)
        assert tableau is not None
        jumps = jnp.asarray(tuple(getattr(field, "jumps", ())), ends.dtype)
        # What is saved is where the next step starts: at a jump, just behind it.
        starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
        intervals = starts, _before(ends, jumps)

        def step(z: State, interval: Any) -> tuple[State, State]:
            z = _stepped(tableau, field, z, *interval)
            return z, z

        return jax.lax.scan(step, z0, intervals)


def _before(ends: Float[Array, " S"], jumps: Float[Array, " J"]) -> Float[Array, " S"]:
    """Ends of steps, those just behind a jump before it."""
    behind = ends[:, None] == jnp.nextafter(jumps, jnp.inf)[None]
    jump = jnp.sum(jnp.where(behind, jumps[None], 0), axis=1)
    return jnp.where(jnp.any(behind, axis=1), jnp.nextafter(jump, -jnp.inf), ends)


def _stepped(
    tableau: _Tableau, field: Callable[..., Any], z: State, start: Any, end: Any
) -> State:
    """One step, its stages written out."""
    h = end - start

    def combined(weights: np.ndarray, slopes: list[State]) -> State:
        used = [(w, k) for w, k in zip(weights, slopes, strict=True) if w != 0]
        if not used:
            return z
        sizes, kept = zip(*used, strict=True)

        def leaf(z: Array, *ks: Array) -> Array:
            total = sum(
                jnp.asarray(w, z.dtype) * k for w, k in zip(sizes, ks, strict=True)
            )
            return z + h * total

        return jtu.tree_map(leaf, z, *kept)

    slopes: list[State] = []
    for node, row in zip(tableau.nodes, tableau.rows, strict=True):
        t = end if node == 1 else start + jnp.asarray(node, h.dtype) * h
        slopes.append(field(t, combined(row, slopes)))
    return combined(tableau.weights, slopes)
