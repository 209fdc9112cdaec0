"""From a saved state to a record: outputs, losses and measures, as named arrays.

Everything read at one save time is traced into one function, so that a quantity several
measures need (the kernel above all) is computed once.
"""
# Longer than 400 lines: what a program traces once lies in one place.

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._precision import at_full_precision
from .._types import OutputLayout
from ..flows import AbstractParameterFlow, Coupled, OutputState, Packed
from ..kernels import kernel_of, ntk_velocity
from ..measures import (
    AbstractMeasure,
    Snapshot,
    layouts,
    leading_curvature,
    leading_eigenpairs,
    leading_modes,
)
from ..models import named_leaves
from ..problem import Problem
from ._events import AbstractEvent

Record = dict[str, np.ndarray]
"""Arrays of one save time, named `variable/flow` or `measure/variable`."""

_CURVED = "memory/curvature"
"""Where a record keeps the Hessian's leading eigenvector, the start for the next."""

_ENDS = ("", "_trace")


LOSS_FACTOR = 1e6
"""Growth of the training loss from which a flow has diverged.

Descent beyond its limit of stability can come back: the loss of a wide network rises up
to about its width before the kernel gives way (Lewkowycz et al. 2020).
"""


class Reference(NamedTuple):
    """What readings compare with: everything taken at t = 0.

    Attributes:
        kernels: Θ₀ in the layouts that measures read, under the snapshot's names.
        before: What the first save time is given of the one before it, t = 0.
        prepared: What each measure prepared.
        events: What each costly event compares with.
        loss: The size that the training loss has at the start.
        once: Arrays of variables that are read at t = 0 alone.
    """

    kernels: dict[str, Array]
    before: dict[str, Array]
    prepared: list[Any]
    events: list[Any]
    loss: Array
    once: dict[str, Array]


@final
class Reader(eqx.Module):
    """Reads saved states of one solve.

    Attributes:
        coupled: The flows of the solve.
        measures: Measures of its first parameter flow; empty in other solves.
        events: Costly stop conditions, likewise.
        linearized: The name of the linearized flow, of this solve or another, or None.
    """

    coupled: Coupled
    measures: tuple[AbstractMeasure, ...]
    events: tuple[AbstractEvent, ...]
    linearized: str | None = eqx.field(static=True)

    @property
    def needs(self) -> frozenset[str]:
        """The shared quantities the measures read."""
        return frozenset(name for m in self.measures for name in m.needs)

    @property
    def kernels(self) -> int:
        """How many kernels of the training set a reading forms."""
        names = ("kernel", "kernel_before")
        return sum(bool(layouts(self.needs, name)) for name in names)

    @property
    def flow(self) -> AbstractParameterFlow:
        """The measured flow."""
        return self.coupled.parameter_flows[0]

    def reference(self, problem: Problem) -> Reference:
        """Everything taken at t = 0; traced.

        Args:
            problem: The problem.

        Returns:
            The reference.
        """
        if not self.measures:
            loss = _loss_size(problem, problem.outputs(problem.params, problem.x))
            events = self._event_references(problem)
            return Reference({}, {}, [], events, loss, {})
        state = self.coupled.init(problem)
        f0 = problem.outputs(problem.params, problem.x)
        x_test = problem.x_test
        test = None if x_test is None else problem.outputs(problem.params, x_test)
        own = OutputState(f0, test)
        time = jnp.zeros((), problem.dtype)
        first = self._snapshot(problem, time, state, own, own, None, None)
        prepared = [measure.prepare(first) for measure in self.measures]
        once = {}
        for measure, fixed in zip(self.measures, prepared, strict=True):
            variables = measure.variables(problem)
            if not all(variable.over_time for variable in variables.values()):
                values = measure(first, fixed)
                once |= {n: values[n] for n in variables if not variables[n].over_time}
        kernels = {"kernel0": first.kernel, "kernel0_trace": first.kernel_trace}
        found = {name: array for name, array in kernels.items() if array is not None}
        before = self._memory(problem, time, first)
        events = self._event_references(problem)
        loss = _loss_size(problem, f0)
        return Reference(found, before, prepared, events, loss, once)

    def _memory(self, problem: Problem, time: Array, now: Snapshot) -> dict[str, Array]:
        # What the next reading is given of this one, named as in its record.
        found: dict[str, Array] = {}
        if layouts(self.needs, "kernel_before"):
            found["time"] = time
            leaves = named_leaves(now.params)
            found |= {f"params/{name}": leaf for name, leaf in leaves}
        if now.curvature is not None:
            # A start need not be exact, and half the memory keeps it.
            found[_CURVED] = now.curvature.vector.astype(jnp.float32)
        return found

    def _event_references(self, problem: Problem) -> list[Any]:
        return [event.reference(problem) for event in self.events]

    def _snapshot(
        self,
        problem: Problem,
        time: Array,
        state: dict[str, Any],
        own: OutputState,
        linearized: OutputState | None,
        reference: Reference | None,
        before: dict[str, Array] | None,
    ) -> Snapshot:
        params = self.flow.params(state[self.flow.name])
        shared = self._kernels(problem, params, before)
        if reference is not None:
            shared |= reference.kernels
        else:
            shared |= {f"kernel0{end}": shared.get(f"kernel{end}") for end in _ENDS}
        modes = leading_modes(self.measures)
        if "kernel" in shared and modes > 0:
            shared["eigenpairs"] = leading_eigenpairs(shared["kernel"], modes)
        if "curvature" in self.needs:
            start = None if before is None else before[_CURVED]
            shared["curvature"] = leading_curvature(problem, params, start)
        if layouts(self.needs, "kernel_before"):
            shared["time_before"] = time if before is None else before["time"]
        return Snapshot(
            time=time,
            problem=problem,
            params=params,
            params0=problem.params,
            f_train=own.train,
            f_test=own.test,
            energy=self.flow.energy(state[self.flow.name], problem),
            linearized=None if linearized is None else linearized.train,
            linearized_test=None if linearized is None else linearized.test,
            quadrature=state.get("quadrature"),
            **shared,
        )

    def _kernels(
        self, problem: Problem, params: Any, before: dict[str, Array] | None
    ) -> dict[str, Any]:
        """The kernels that measures read, under the snapshot's names."""
        earlier = params
        if before is not None and layouts(self.needs, "kernel_before"):
            leaves = [before[f"params/{name}"] for name, _ in named_leaves(params)]
            earlier = jtu.tree_unflatten(jtu.tree_structure(params), leaves)
        x_test = problem.x_test
        forms: dict[str, Callable[[OutputLayout], Array]] = {
            "kernel": lambda to: kernel_of(problem, params, outputs=to),
            "kernel_before": lambda to: kernel_of(problem, earlier, outputs=to),
            "kernel_test": lambda to: kernel_of(problem, params, x_test, outputs=to),
            "velocity": lambda to: ntk_velocity(
                problem, problem.model_of(params), outputs=to
            ),
        }
        found: dict[str, Any] = {}
        for name, form in forms.items():
            read = layouts(self.needs, name)
            if not read:
                continue
            kernel = form(read[0])
            if "full" in read:
                found[name] = kernel
            if "trace" in read:
                summed = jnp.einsum("ikjk->ij", kernel) if "full" in read else kernel
                found[f"{name}_trace"] = summed
        return found

    def read(
        self,
        problem: Problem,
        constants: dict[str, Any],
        reference: Reference,
        time: Array,
        packed: Packed,
        linearized: OutputState | None,
        before: dict[str, Array],
    ) -> dict[str, Array]:
        """One record; traced.

        Args:
            problem: The problem.
            constants: From `Coupled.prepare`.
            reference: From `reference`.
            time: The save time.
            packed: The coupled state there.
            linearized: Outputs of a linearized flow of another solve, or None.
            before: What is kept of the save time before, from `memory_of`.

        Returns:
            Arrays by record name; under `event/i` the values of the costly events,
            under `params/` the measured flow's trained leaves, under `memory/` what
            else the next reading is given.
        """
        state = self.coupled.unpack(packed, problem)
        outputs = self.coupled.outputs(state, problem, constants)
        record: dict[str, Array] = {}
        for name, out in outputs.items():
            record |= _outputs_record(problem, name, out)
        if self.coupled.parameter_flows:
            params = self.flow.params(state[self.flow.name])
            record |= {f"params/{name}": leaf for name, leaf in named_leaves(params)}
        if not (self.measures or self.events):
            return record
        if self.linearized is not None:
            linearized = outputs.get(self.linearized, linearized)
        own = outputs[self.flow.name]
        now = self._snapshot(problem, time, state, own, linearized, reference, before)
        memory = self._memory(problem, time, now)
        record |= {n: v for n, v in memory.items() if n.startswith("memory/")}
        for measure, fixed in zip(self.measures, reference.prepared, strict=True):
            values = measure(now, fixed)
            record |= {f"measure/{name}": value for name, value in values.items()}
        for name in reference.once:
            del record[f"measure/{name}"]
        # The compiler finds the events' kernel to be the measures' own.
        for i, (event, fixed) in enumerate(
            zip(self.events, reference.events, strict=True)
        ):
            record[f"event/{i}"] = event.value(problem, now.params, fixed)
        return record


def _loss_size(problem: Problem, f0: Array) -> Array:
    # A start that is nearly perfect has hardly a loss of its own to grow from.
    start = jnp.abs(problem.loss_of(f0, problem.y))
    none = jnp.abs(problem.loss_of(jnp.zeros_like(f0), problem.y))
    return jnp.where(jnp.isfinite(none) & (none > start), none, start)


def has_diverged(record: Record, reference: Reference) -> bool:
    """Whether the loss of a flow has left all that training can come back from.

    Args:
        record: What was read at a save time.
        reference: What is compared with.

    Returns:
        Whether a training loss is infinite, NaN, or above `LOSS_FACTOR` times its size
        at the start; never where the loss was not finite then.
    """
    size = float(reference.loss)
    if not np.isfinite(size):
        return False
    bound = LOSS_FACTOR * size if size > 0 else np.inf
    losses = [v for name, v in record.items() if name.startswith("loss_train/")]
    return not all(np.isfinite(loss) and loss <= bound for loss in losses)


def _outputs_record(problem: Problem, name: str, out: OutputState) -> dict[str, Array]:
    record = {}
    sets = {"train": (out.train, problem.y), "test": (out.test, problem.y_test)}
    for split, (f, y) in sets.items():
        if f is None or y is None:
            continue
        record[f"f_{split}/{name}"] = f
        record[f"loss_{split}/{name}"] = problem.loss_of(f, y)
        accuracy = problem.accuracy(f, y)
        if accuracy is not None:
            record[f"accuracy_{split}/{name}"] = accuracy
    return record


@eqx.filter_jit
@at_full_precision
def _read_outputs(coupled, problem, constants, packed):
    state = coupled.unpack(packed, problem)
    found = {}
    for name, out in coupled.outputs(state, problem, constants).items():
        found[f"f_train/{name}"] = out.train
        found[f"loss_train/{name}"] = problem.loss_of(out.train, problem.y)
    return found


def read_outputs(
    coupled: Coupled, problem: Problem, constants: dict[str, Any], packed: Packed
) -> Record:
    """The training outputs and losses of every flow, and nothing else.

    Args:
        coupled: The flows.
        problem: The problem.
        constants: From `Coupled.prepare`.
        packed: The coupled state.

    Returns:
        The part of a record that begins with `f_train/` and `loss_train/`.
    """
    found = _read_outputs(coupled, problem, constants, packed)
    return {name: np.asarray(jax.device_get(value)) for name, value in found.items()}


@eqx.filter_jit
@at_full_precision
def compute_reference(reader: Reader, problem: Problem) -> Reference:
    """`Reader.reference`, compiled.

    Args:
        reader: The reader.
        problem: The problem.

    Returns:
        The reference.
    """
    return reader.reference(problem)


def memory_of(reference: Reference, time: float, record: Record | None) -> Record:
    """What a reading is given of the save time before.

    Args:
        reference: From `compute_reference`, which knows what is read.
        time: The save time before.
        record: Its record; None before the first, which is given t = 0.

    Returns:
        Arrays by name; none if no measure looks back.
    """
    kept = {name: np.asarray(array) for name, array in reference.before.items()}
    if record is None:
        return kept
    return {
        name: np.asarray(time, array.dtype) if name == "time" else record[name]
        for name, array in kept.items()
    }


@eqx.filter_jit
@at_full_precision
def _read(reader, problem, constants, reference, time, packed, linearized, before):
    return reader.read(problem, constants, reference, time, packed, linearized, before)


def read_record(
    reader: Reader,
    problem: Problem,
    constants: dict[str, Any],
    reference: Reference,
    time: float,
    packed: Packed,
    linearized: OutputState | None,
    before: Record,
) -> Record:
    """`Reader.read`, compiled, as numpy arrays.

    Args:
        reader: The reader.
        problem: The problem.
        constants: From `Coupled.prepare`.
        reference: From `compute_reference`.
        time: The save time.
        packed: The coupled state there.
        linearized: Outputs of a linearized flow of another solve, or None.
        before: From `memory_of`.

    Returns:
        The record.
    """
    when = jnp.asarray(time, problem.dtype)
    memory = {name: jnp.asarray(array) for name, array in before.items()}
    record = _read(
        reader, problem, constants, reference, when, packed, linearized, memory
    )
    return {name: np.asarray(jax.device_get(value)) for name, value in record.items()}
