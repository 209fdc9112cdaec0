"""A function of (leaves, one example) as numbered steps over numbered slots.

`_walk` writes a jaxpr down in this form once; `run` evaluates it, with something added
to chosen slots (the taps), so that derivatives with respect to a tap are the cotangents
of its slot. A loop that a weight enters is opened: its body's steps stand in the same
list, and a slot of the body is seen from outside with one leading axis for each loop
around it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
from jaxtyping import Array

from ntkflow._equations import parameters
from ntkflow.kernels._chains import Atom, Chain
from ntkflow.kernels._lookups import bind

Frame = tuple[int, ...]
"""The loops around a step or slot, outermost first."""


class Loop(NamedTuple):
    """The body of an opened scan.

    Attributes:
        number: Its number; the body's frame ends with it.
        inputs: Slots of the carry, then of one element of each scanned array.
        outputs: Atoms of the next carry, then of one element of each result.
        n_consts: How many of the scan's inputs the body reads as they are.
        n_carry: How many of `inputs` and of `outputs` are the carry.
    """

    number: int
    inputs: tuple[int, ...]
    outputs: tuple[Atom, ...]
    n_consts: int
    n_carry: int


class Step(NamedTuple):
    """One equation.

    Attributes:
        equation: The equation as JAX wrote it.
        inputs: Slots or literals read.
        outputs: Slots written.
        frame: The loops around it.
        loop: The body, of an opened scan.
    """

    equation: jex.JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]
    frame: Frame
    loop: Loop | None = None

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name


class Encounter(NamedTuple):
    """A step in which a leaf enters linearly and the other operand is known.

    Attributes:
        step: Index of the step.
        side: Which input the leaf is.
        chain: How that input is made from the leaf.
    """

    step: int
    side: int
    chain: Chain


class Program(NamedTuple):
    """A function of (leaves, one example) as steps over numbered slots.

    Attributes:
        steps: The equations; those of a loop's body before the loop.
        inputs: Slots of the leaves, then of the example.
        constants: Values known beforehand.
        outputs: The atom that holds the outputs [K].
        avals: Shape and dtype of every slot, of one iteration inside a loop.
        frames: The loops around every slot.
        lengths: Iterations of every loop.
        scalars: For an array that repeats one number, where that number is.
        encounters: Where leaves are used in a way that factors.
        opaque: (step, leaf) for every other use; step −1 is the output itself.
    """

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    constants: Mapping[int, Any]
    outputs: tuple[Atom, ...]
    avals: Sequence[Any]
    frames: Sequence[Frame]
    lengths: Sequence[int]
    scalars: Mapping[int, Atom]
    encounters: tuple[Encounter, ...]
    opaque: tuple[tuple[int, int], ...]

    def aval(self, atom: Atom) -> Any:
        """Shape and dtype of a slot or literal.

        Args:
            atom: The slot or literal.

        Returns:
            Its abstract value.
        """
        return self.avals[atom] if isinstance(atom, int) else atom.aval

    def frame(self, atom: Atom) -> Frame:
        """The loops around a slot; none around a literal.

        Args:
            atom: The slot or literal.

        Returns:
            Numbers of the loops.
        """
        return self.frames[atom] if isinstance(atom, int) else ()

    def counts(self, frame: Frame) -> tuple[int, ...]:
        """Iterations of the loops of a frame: the leading axes of its slots.

        Args:
            frame: The frame.

        Returns:
            One number a loop.
        """
        return tuple(self.lengths[loop] for loop in frame)

    def scalar(self, atom: Atom) -> Atom | None:
        """The one number an array consists of.

        Args:
            atom: The array.

        Returns:
            A slot or literal of rank 0, or None if the array may hold several numbers.
        """
        if self.aval(atom).shape == ():
            return atom
        return self.scalars.get(atom) if isinstance(atom, int) else None


def run(
    program: Program,
    leaves: Sequence[Array],
    x: Array,
    taps: Mapping[int, Array],
    kept: frozenset[int],
) -> tuple[Array, dict[int, Any]]:
    """Evaluate the program, adding a tap to the slots that have one.

    Args:
        program: The program.
        leaves: Its trained leaves.
        x: One example.
        taps: What to add to a slot; zeros, so that the derivative with respect to a
            tap is the cotangent of its slot.
        kept: Slots inside loops whose values are wanted.

    Returns:
        The outputs [K], and the values of slots: all that are outside of loops, and of
        those inside the kept ones.
    """
    env: dict[int, Any] = dict(program.constants)
    for slot, value in zip(program.inputs, [*leaves, x], strict=True):
        env[slot] = value + taps[slot] if slot in taps else value
    _run_frame(program, (), env, taps, kept)
    return read(env, program.outputs[0]), env


def read(env: Mapping[int, Any], atom: Atom) -> Any:
    """The value of a slot or literal.

    Args:
        env: Values of slots.
        atom: The slot or literal.

    Returns:
        The value.
    """
    return env[atom] if isinstance(atom, int) else atom.val


def _run_frame(
    program: Program,
    frame: Frame,
    env: dict[int, Any],
    taps: Mapping[int, Array],
    kept: frozenset[int],
) -> None:
    """Evaluates the steps of one frame into `env`."""
    for step in program.steps:
        if step.frame != frame:
            continue
        if step.loop is None:
            results = bind(step.equation, [read(env, atom) for atom in step.inputs])
        else:
            results, inner = _run_loop(program, step, env, taps, kept)
            env.update(inner)
        for slot, value in zip(step.outputs, results, strict=True):
            env[slot] = value + taps[slot] if slot in taps else value


def _run_loop(
    program: Program,
    step: Step,
    env: Mapping[int, Any],
    taps: Mapping[int, Array],
    kept: frozenset[int],
) -> tuple[Sequence[Any], dict[int, Any]]:
    """The scan with the body's taps among what is scanned, its kept slots returned."""
    loop, params = step.loop, parameters(step.equation)
    assert loop is not None
    frame = (*step.frame, loop.number)

    def inside(slot: int) -> bool:
        return program.frames[slot][: len(frame)] == frame

    tapped = {slot: tap for slot, tap in taps.items() if inside(slot)}
    wanted = [slot for slot in kept if inside(slot)]

    def body(carry: list[Any], scanned: Any) -> tuple[list[Any], Any]:
        elements, its_taps = scanned
        inner = dict(env)
        inner.update(zip(loop.inputs, [*carry, *elements], strict=True))
        _run_frame(program, frame, inner, its_taps, kept)
        results = [read(inner, atom) for atom in loop.outputs]
        seen = {slot: inner[slot] for slot in wanted}
        return results[: loop.n_carry], (results[loop.n_carry :], seen)

    values = [read(env, atom) for atom in step.inputs[loop.n_consts :]]
    carry, (stacked, seen) = jax.lax.scan(
        body,
        values[: loop.n_carry],
        (values[loop.n_carry :], tapped),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *stacked], seen
