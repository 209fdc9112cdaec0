"""From what was asked for to solves: flows completed, solvers chosen, grouped."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import numpy as np

from .._errors import unknown_name
from ..flows import (
    AbstractFlow,
    Coupled,
    Descent as DescentFlow,
    Gradient,
    Linearized,
    Quadrature,
    Residual,
    kind_of,
    max_over_flows,
)
from ..measures import AbstractMeasure
from ..problem import Problem
from ..solvers import (
    AbstractStabilized,
    Chebyshev,
    Descent,
    EqualSteps,
    Explicit,
    FunctionSpace,
    KernelExponential,
    KernelImplicit,
    Rock4,
)
from ._events import AbstractEvent
from ._forecast import CHEBYSHEV, EXPLICIT, EXPONENTIAL, IMPLICIT, ROCK4
from ._kinks import find_kinks
from ._solve import Solve
from ._solver_names import wrong_solver
from ._tolerance import local_share


class PlannedSolve(NamedTuple):
    """A solve, and how to speak of its solver.

    Attributes:
        solve: The solve, with the solver that it begins with.
        solver: A sentence for the statistics.
        measured: Whether measures read this solve's first parameter flow.
        choices: By name, the same solve with every solver that `auto` may take; empty
            for a solver that the caller named.
        repeats: Whether it is repeated where it misses its tolerance: with `auto`, if
            the model is smooth.
        held: Whether it is held to the run's tolerances, and not by a controller of the
            caller's.
    """

    solve: Solve
    solver: str
    measured: bool
    choices: dict[str, Solve]
    repeats: bool
    held: bool


def default_flows() -> tuple[AbstractFlow, ...]:
    """The network, both residual equations and the linearized model."""
    return (Gradient(), Residual("evolving"), Residual("frozen"), Linearized())


def complete_flows(
    flows: Sequence[AbstractFlow], measures: Sequence[AbstractMeasure]
) -> list[AbstractFlow]:
    """Adds the flows that others run along or that measures need.

    Args:
        flows: What the caller asked for.
        measures: The measures.

    Returns:
        All flows; the caller's in their order, then the added ones, so that measures
        read the first flow of the parameters that the caller named.

    Raises:
        ValueError: If something is no flow, or a measure cannot be served.
    """
    flows = list(flows)
    for flow in flows:
        if not isinstance(flow, AbstractFlow):
            raise ValueError(
                f"flows must be instances such as nf.flows.Gradient(), got {flow!r}."
            )
    if not flows:
        raise ValueError("flows is empty: name at least one, e.g. nf.flows.Gradient().")
    flows = _with_gradient(flows)
    kinds = [kind_of(flow) for flow in flows]
    needs = {name for measure in measures for name in measure.needs}
    watched = Coupled(tuple(flows)).parameter_flows
    if measures and not watched:
        raise ValueError(
            "Measures read a flow of the network's parameters and there is none: add "
            "nf.flows.Gradient() to flows, or pass measures=()."
        )
    if "linearized" in needs and "linearized" not in kinds:
        raise ValueError(
            "The linearization gap compares with the linearized model: add "
            "nf.flows.Linearized() to flows, or drop the measure."
        )
    if "quadrature" in needs and "quadrature" not in kinds:
        flows.append(Quadrature(watched[0]))  # pyright: ignore[reportCallIssue]
    return flows


def _with_gradient(flows: list[AbstractFlow]) -> list[AbstractFlow]:
    """The flows with the gradient flow that residual flows run along by default."""
    default = Gradient()
    needed = any(flow.along == default.name for flow in flows)
    if not needed or default.name in [flow.name for flow in flows]:
        return flows
    gradient = next((flow for flow in flows if isinstance(flow, Gradient)), None)
    if gradient is None:
        return [*flows, default]
    return [
        Residual(flow.kernel, gradient.name, name=flow.name)
        if isinstance(flow, Residual) and flow.along == default.name
        else flow
        for flow in flows
    ]


def plan_solves(
    flows: Sequence[AbstractFlow],
    problem: Problem,
    *,
    solver: Any,
    controller: dfx.AbstractStepSizeController | None,
    dt0: float | None,
    rtol: float,
    atol: float,
    events: Sequence[AbstractEvent],
    dense_steps: int,
    forward: bool = True,
) -> list[PlannedSolve]:
    """Groups flows into solves: those with the same solver are integrated together.

    Args:
        flows: All flows.
        problem: The problem.
        solver: `"auto"`, a diffrax solver, or a mapping from flow names to either.
        controller: A step-size controller; by default one that holds every flow to the
            tolerances.
        dt0: The first step, or None.
        rtol: Relative tolerance.
        atol: Absolute tolerance, in units of each flow's state.
        events: Cheap stop conditions; they end the measured solve.
        dense_steps: Steps of dense output a segment keeps.
        forward: Whether the model has forward derivatives.

    Returns:
        The solves; the one that measures read comes last, so that the others' outputs
        are at hand.

    Raises:
        ValueError: If a solver is unknown or does not suit a flow, or the steps of
            discrete training are asked to be others.
    """
    planned = []
    first = Coupled(tuple(flows)).parameter_flows
    groups = _groups(flows, solver)
    kinks = find_kinks(problem)
    stepped = controller is not None or dt0 is not None
    if stepped and all(isinstance(chosen, Descent) for chosen, _ in groups):
        raise ValueError(
            "Descent makes one update a step, as long as its learning rate says: leave "
            "out controller and dt0."
        )
    for chosen, members in groups:
        coupled = Coupled(tuple(members))
        measured = bool(first) and first[0].name in coupled.names
        methods = {"": chosen}
        if chosen == "auto":
            methods = _explicit()
            # All others take products with the flow's Jacobian.
            if forward:
                methods = _methods(coupled, problem, controller)
        solves = {
            name: Solve(
                coupled,
                method,
                _controller(method, controller, dt0, rtol, atol, smooth=kinks.none),
                dt0,
                tuple(events) if measured else (),
                dense_steps,
                rtol,
            )
            for name, method in methods.items()
        }
        first_solve = next(iter(solves.values()))
        _check_spectrum(coupled, first_solve.solver)
        # With a choice, `auto` tells at the end what it took.
        only = next(iter(solves))
        sentence = f"auto: {only}" if chosen == "auto" else type(chosen).__name__
        choices = solves if len(solves) > 1 else {}
        held = controller is None and not isinstance(chosen, Descent)
        # Where the outputs have kinks, errors do not fall with the tolerance, while the
        # steps grow in number as much as it falls.
        repeats = held and chosen == "auto" and not kinks.model
        planned.append(
            PlannedSolve(first_solve, sentence, measured, choices, repeats, held)
        )
    return sorted(planned, key=lambda p: p.measured)


def _groups(
    flows: Sequence[AbstractFlow], solver: Any
) -> list[tuple[Any, list[AbstractFlow]]]:
    """The flows that are solved together, with their solver."""
    by_name = _solvers_by_name(flows, solver)
    groups: list[tuple[Any, list[AbstractFlow]]] = []
    for flow in flows:
        chosen = by_name[flow.name]
        for other, members in groups:
            if _same(other, chosen):
                members.append(flow)
                break
        else:
            groups.append((chosen, [flow]))
    return groups


def _methods(
    coupled: Coupled,
    problem: Problem,
    controller: dfx.AbstractStepSizeController | None,
) -> dict[str, dfx.AbstractSolver]:
    """What `auto` may take, the explicit method first."""
    methods = _explicit()
    # Fixed steps leave nothing to choose; what else there is takes flows that decay.
    fixed = isinstance(controller, dfx.ConstantStepSize)
    if fixed or any(flow.oscillates for flow in coupled.parameter_flows):
        return methods
    # Where velocities jump, it alone takes the small steps that errors ask for.
    if find_kinks(problem).model:
        return {CHEBYSHEV: Chebyshev()}
    methods[CHEBYSHEV] = Chebyshev()
    if problem.dtype == np.float64:
        methods[ROCK4] = Rock4()
    # The modified equation is not driven through the kernel alone.
    if not all(isinstance(flow, Gradient) for flow in coupled.parameter_flows):
        return methods
    kernel_solvers = {IMPLICIT: KernelImplicit(), EXPONENTIAL: KernelExponential()}
    size = problem.n_examples * problem.n_outputs
    return methods | {n: s for n, s in kernel_solvers.items() if size <= s.max_size}


def _explicit() -> dict[str, dfx.AbstractSolver]:
    # As cheap as Tsit5, and truer to loose tolerances where a flow escapes a plateau.
    return {EXPLICIT: Explicit(dfx.Dopri5())}


def _check_spectrum(coupled: Coupled, solver: dfx.AbstractSolver) -> None:
    if isinstance(solver, AbstractStabilized):
        for flow in coupled.parameter_flows:
            if flow.oscillates:
                raise ValueError(
                    f"{type(solver).__name__} is stable on the negative real axis, and "
                    "the heavy ball oscillates: its spectrum is complex. Use "
                    f"diffrax.Tsit5() or diffrax.Dopri8() for the flow {flow.name!r}."
                )


def _solvers_by_name(flows: Sequence[AbstractFlow], solver: Any) -> dict[str, Any]:
    names = [flow.name for flow in flows]
    if isinstance(solver, Mapping):
        for name in solver:
            if name not in names:
                raise unknown_name("flow in solver", name, names)
        by_name = {name: solver.get(name, "auto") for name in names}
    else:
        by_name = dict.fromkeys(names, solver)
    for flow in flows:
        if isinstance(flow, DescentFlow):
            if isinstance(solver, Mapping) and flow.name in solver:
                raise ValueError(
                    "nf.flows.Descent makes its own updates: leave "
                    f"{flow.name!r} out of solver."
                )
            by_name[flow.name] = Descent(flow.step)
        chosen = by_name[flow.name]
        if not isinstance(chosen, dfx.AbstractSolver) and not _same(chosen, "auto"):
            raise wrong_solver(chosen)
        if flow.along is not None:
            asked = isinstance(solver, Mapping) and flow.name in solver
            if asked and not _same(chosen, by_name[flow.along]):
                raise ValueError(
                    f"{flow.name} reads the kernel along {flow.along} at every stage, "
                    "so they share a solve: give both the same solver, or leave "
                    f"{flow.name} out of the mapping."
                )
            by_name[flow.name] = by_name[flow.along]
    return by_name


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    return type(a) is type(b) and bool(eqx.tree_equal(a, b))


def _controller(
    solver: dfx.AbstractSolver,
    controller: dfx.AbstractStepSizeController | None,
    dt0: float | None,
    rtol: float,
    atol: float,
    *,
    smooth: bool,
) -> dfx.AbstractStepSizeController:
    if isinstance(solver, Descent):
        return EqualSteps(solver.learning_rate)
    if controller is None:
        if not isinstance(solver, dfx.AbstractAdaptiveSolver):
            raise ValueError(
                f"{type(solver).__name__} has no error estimate, so it cannot choose "
                "its steps: pass dt0= and controller=diffrax.ConstantStepSize()."
            )
        share = local_share(solver, rtol)
        inner = dfx.PIDController(share * rtol, share * atol, norm=max_over_flows)
        return FunctionSpace(inner, by_movement=smooth)
    if isinstance(controller, dfx.StepTo):
        raise ValueError(
            "diffrax.StepTo fixes every step in advance and cannot be resumed by "
            "segments: use ConstantStepSize with dt0=, or an adaptive controller."
        )
    if isinstance(controller, dfx.ConstantStepSize) and dt0 is None:
        raise ValueError("ConstantStepSize needs its step: pass dt0=.")
    if isinstance(controller, FunctionSpace) and not smooth:
        return dataclasses.replace(controller, by_movement=False)
    return controller


def check_kinds(problem: Any, flows: Any, measures: Any) -> None:
    """Refuses what is no problem, and a flow or a measure outside a list.

    Args:
        problem: The problem.
        flows: The flows, or None.
        measures: The measures, or None.

    Raises:
        ValueError: If one of them is of another kind.
    """
    if not isinstance(problem, Problem):
        raise ValueError(
            "simulate takes a problem, the model with its data and loss: "
            f"nf.Problem(model, x, y). It got a {type(problem).__name__}."
        )
    for name, given, kind in (
        ("flows", flows, AbstractFlow),
        ("measures", measures, AbstractMeasure),
    ):
        if isinstance(given, kind):
            raise ValueError(f"{name} must be a list: {name}=[{given!r}].")


def check_times(ts: Any, dtype: np.dtype) -> np.ndarray:
    """Save times as a float64 vector.

    Args:
        ts: Save times.
        dtype: The dtype time is integrated in.

    Returns:
        The times.

    Raises:
        ValueError: If they are not finite, not increasing, or begin before zero.
    """
    times = np.asarray(ts, dtype=np.float64)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"ts must be a vector of save times, got shape {times.shape}.")
    if not np.isfinite(times).all() or times[0] < 0 or times[-1] <= 0:
        raise ValueError(
            "ts must be finite, not negative, and end after zero; got "
            f"{times[0]:g} … {times[-1]:g}. Training starts at t = 0."
        )
    steps = np.diff(times.astype(dtype))
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        raise ValueError(
            f"ts must increase: ts[{i}] = {times[i]:g} is followed by ts[{i + 1}] = "
            f"{times[i + 1]:g} (as {dtype})."
        )
    return times
