"""One solve: a coupled system, a solver and a controller, a segment at a time.

`Solve.start` makes the state at t = 0 and `Solve.advance` integrates one segment of it;
both are compiled once and work on every segment, alone or under `vmap` for an ensemble.
The host loop that strings segments together is in `_integrate.py`.
"""

from typing import Any, cast, final

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Float

from .._types import IntScalar, Scalar
from ..flows import Coupled, Gradient, Packed
from ..problem import Problem
from ..solvers import (
    AbstractCountedSolver,
    Code,
    EqualSteps,
    FlowTerm,
    FunctionSpace,
    rounding,
)
from ._complex_data import diffeqsolve
from ._counting import counting, evaluations_per_step
from ._events import AbstractEvent
from ._growth import Growth, GrowthMeter
from ._reason import Reason
from ._records import Progressed, SolveState, Span
from ._segments import Segmented, SegmentedState


@final
class Solve(eqx.Module):
    """A coupled system with the means to integrate it.

    Attributes:
        coupled: The flows.
        solver: A diffrax solver.
        controller: A diffrax step-size controller.
        dt0: The first step, or None to let the controller choose.
        events: Cheap stop conditions, located by diffrax.
        dense_steps: Steps of dense output a segment keeps; 0 for none.
        rtol: Relative tolerance of the run.
        stretch: The first step over the one that the controller proposes.
    """

    coupled: Coupled
    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController
    dt0: float | Array | None
    events: tuple[AbstractEvent, ...]
    dense_steps: int = eqx.field(static=True)
    rtol: float | Array
    stretch: float | Array = 1.0

    def terms(self, problem: Problem, constants: dict[str, Any]) -> FlowTerm:
        """The coupled vector field as diffrax takes it.

        Args:
            problem: The problem.
            constants: From `Coupled.prepare`.

        Returns:
            A term.
        """
        return FlowTerm(self.coupled, problem, constants)

    def stepping(
        self, problem: Problem, constants: dict[str, Any]
    ) -> dfx.AbstractStepSizeController:
        """The controller, told what the outputs of a state are.

        Args:
            problem: The problem.
            constants: From `Coupled.prepare`.

        Returns:
            A controller that diffrax can use.
        """
        if not isinstance(self.controller, FunctionSpace):
            return self.controller
        coupled = self.coupled

        def outputs(y: Packed) -> dict[str, Any]:
            read = coupled.outputs(coupled.unpack(y, problem), problem, constants)
            return {name: read.get(name, own) for name, own in y.items()}

        def params(y: Packed) -> list[Any]:
            state = coupled.unpack(y, problem)
            return [flow.params(state[flow.name]) for flow in coupled.parameter_flows]

        watched = params if coupled.parameter_flows else None
        return self.controller.bind(outputs, size_of_targets(problem), watched)

    def meter(self, problem: Problem, constants: dict[str, Any]) -> GrowthMeter:
        """What measures how much the gradient flow makes errors grow.

        Args:
            problem: The problem.
            constants: From `Coupled.prepare`.

        Returns:
            A meter; without a gradient flow one that sees nothing move. The outputs
            of the heavy ball are not all of what moves, and their speed tells nothing.
        """
        coupled = self.coupled
        watched = [f.name for f in coupled.flows if isinstance(f, Gradient)]

        def outputs(y: Packed) -> Float[Array, "..."]:
            if not watched:
                return jnp.zeros((1,), problem.dtype)
            # The operations of `stepping`, so that the compiler does them once.
            read = coupled.outputs(coupled.unpack(y, problem), problem, constants)
            return read[watched[0]].train

        return GrowthMeter(outputs, size_of_targets(problem), self.rtol)

    def start(
        self, problem: Problem, constants: dict[str, Any], end: Scalar
    ) -> SolveState:
        """The state at t = 0, with the first step chosen.

        Args:
            problem: The problem.
            constants: From `Coupled.prepare`, with the events' under `"events"`.
            end: End of the run.

        Returns:
            The state.
        """
        y0 = self.coupled.pack(self.coupled.init(problem))
        dt0 = None if self.dt0 is None else jnp.asarray(self.dt0, end.dtype)
        t0 = jnp.zeros_like(end)
        growth = self.meter(problem, constants).begin(t0, y0)
        return self._begin(problem, constants, t0, y0, dt0, end, growth, self.stretch)

    def take_over(
        self,
        problem: Problem,
        constants: dict[str, Any],
        state: SolveState,
        end: Scalar,
    ) -> SolveState:
        """The state from which this solver goes on where another one stands.

        Args:
            problem: The problem.
            constants: As for `start`.
            state: The other solver's; its proposed step is the first one here.
            end: End of the run.

        Returns:
            The state.
        """
        dt0 = state.controller.tnext - state.t
        growth = state.controller.growth
        return self._begin(problem, constants, state.t, state.y, dt0, end, growth, 1.0)

    def _begin(
        self,
        problem: Problem,
        constants: dict[str, Any],
        t0: Scalar,
        y0: Packed,
        dt0: Scalar | None,
        end: Scalar,
        growth: Growth,
        stretch: float | Array,
    ) -> SolveState:
        terms = self.terms(problem, constants)
        controller = self.stepping(problem, constants)
        tnext, inner = controller.wrap(1).init(
            terms,
            t0,
            end,
            y0,
            dt0,
            None,
            self.solver.func,
            self.solver.error_order(terms),
        )
        # Controllers may begin with Python numbers where they go on with arrays; the
        # next segment would be compiled anew for that.
        inner = jtu.tree_map(jnp.asarray, inner)
        proposed = jnp.asarray(t0 + stretch * (tnext - t0), end.dtype)
        tnext = jnp.minimum(proposed, end)
        solver_state = self.solver.init(terms, t0, tnext, y0, None)
        stepping = SegmentedState.begin(inner, tnext, proposed, growth)
        return SolveState(t0, y0, solver_state, stepping, made_jump=False)

    def advance(
        self,
        problem: Problem,
        constants: dict[str, Any],
        state: SolveState,
        span: Span,
        *,
        locates: bool = True,
    ) -> Progressed:
        """Integrates one segment.

        Args:
            problem: The problem.
            constants: As for `start`.
            state: Where to begin.
            span: How far to go.
            locates: Whether it ends where a stop condition is met; else with the step
                in which it is.

        Returns:
            The new state and what was saved on the way.
        """
        solver = self.solver
        end, end_floor = self.ends(span.end, span.end_floor)
        controller = Segmented(
            self.stepping(problem, constants),
            state.controller.tnext,
            span.max_steps,
            span.window[-1],
            span.limit,
            state.controller.whole,
            span.end,
            end_floor,
            evaluations_per_step(solver),
            self.meter(problem, constants),
        )
        # Steps of fixed length cannot be refused.
        fixed = isinstance(self.controller, dfx.ConstantStepSize)
        window = span.window[:0] if fixed else span.window
        solver = counting(solver, window, self.dense_steps > 0 and not fixed)
        solution = diffeqsolve(
            self.terms(problem, constants),
            solver,
            t0=state.t,
            t1=end,
            dt0=None,
            y0=state.y,
            saveat=dfx.SaveAt(
                subs=[dfx.SubSaveAt(ts=span.window), dfx.SubSaveAt(t1=True)],
                dense=self.dense_steps > 0,
                solver_state=True,
                controller_state=True,
                made_jump=True,
            ),
            stepsize_controller=controller,
            solver_state=state.solver,
            controller_state=state.controller.go_on(),
            made_jump=state.made_jump,
            event=self._event(problem, constants, locates=locates),
            adjoint=dfx.ForwardMode(),
            max_steps=self.dense_steps or None,
            throw=False,
        )
        return self._progressed(solution, problem, constants, span)

    def ends(self, end: Scalar, floor: Scalar) -> tuple[Scalar, Scalar]:
        """The end that diffrax is told, and where a step is taken to the run's end.

        diffrax joins what is within 100 units in the last place of its end to the last
        step, which may be several updates of a long run: its end is put out of reach.

        Args:
            end: End of the run.
            floor: `clip_floor(end)`.

        Returns:
            Both times.
        """
        if not isinstance(self.controller, EqualSteps):
            return end, floor
        return 2 * end + self.controller.length, end - rounding(end)

    def _event(
        self, problem: Problem, constants: dict[str, Any], *, locates: bool
    ) -> dfx.Event | None:
        if not self.events:
            return None
        # diffrax's root finder mixes the event's value with Python floats, which are of
        # the default dtype whatever the state's; and it takes one condition at a time.
        default = jnp.result_type(float)

        def first_to_occur(t, y, args, **kwargs):
            del t, args, kwargs
            return jnp.min(self._event_values(problem, constants, y)).astype(default)

        finder = optx.Bisection(rtol=1e-12, atol=0.0, flip="detect")
        return dfx.Event(
            first_to_occur, root_finder=finder if locates else None, direction=False
        )

    def _event_values(
        self, problem: Problem, constants: dict[str, Any], y: Packed
    ) -> Float[Array, " E"]:
        flow = self.coupled.parameter_flows[0]
        params = flow.params(self.coupled.unpack(y, problem)[flow.name])
        values = [
            event.value(problem, params, reference)
            for event, reference in zip(self.events, constants["events"], strict=True)
        ]
        return jnp.stack(values)

    def _progressed(
        self,
        solution: dfx.Solution,
        problem: Problem,
        constants: dict[str, Any],
        span: Span,
    ) -> Progressed:
        (saved_ts, end_ts), (saved, end) = cast(Any, (solution.ts, solution.ys))
        t = end_ts[0]
        controller = cast(SegmentedState, solution.controller_state)
        y = jtu.tree_map(lambda leaf: leaf[0], end)
        event = jnp.asarray(-1)
        if self.events:
            nearest = jnp.argmin(self._event_values(problem, constants, y))
            event = jnp.where(cast(Array, solution.event_mask), nearest, -1)
        code = jnp.where(t >= span.end, Reason.COMPLETED, controller.code)
        code = jnp.where(event >= 0, Reason.EVENT, code)
        if isinstance(self.solver, AbstractCountedSolver):
            code = _with_solver_code(code, self.solver.code(solution.solver_state))
        state = SolveState(
            t,
            y,
            solution.solver_state,
            controller,
            cast(Any, solution.made_jump)
            if eqx.is_array(solution.made_jump)
            else False,
        )
        return Progressed(
            state,
            saved,
            jnp.sum(jnp.isfinite(saved_ts)),
            code,
            jnp.asarray(solution.stats["num_steps"]),
            jnp.asarray(solution.stats["num_rejected_steps"]),
            controller.work,
            event,
            solution.interpolation,
        )


def size_of_targets(problem: Problem) -> float | Array:
    """The size by which outputs count as small: the root mean square of the targets.

    Args:
        problem: The problem.

    Returns:
        A positive number; one for labels, and for targets that are all zero.
    """
    y = problem.y
    if not jnp.issubdtype(y.dtype, jnp.inexact):
        return 1.0
    size = jnp.sqrt(jnp.mean(y**2))
    return jnp.where(size > 0, size, 1.0)


def _with_solver_code(code: IntScalar, found: IntScalar) -> IntScalar:
    for wrong, reason in _REASONS.items():
        code = jnp.where(found == wrong, reason, code)
    return code


_REASONS = {
    Code.SPECTRUM: Reason.SPECTRUM,
    Code.FACTORIZATION: Reason.FACTORIZATION,
}
