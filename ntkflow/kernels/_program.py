"""A jaxpr as one flat list of steps, and what each trained leaf meets in it.

The program of one example is walked once, front to back. Leaves are followed through
layout operations (`_chains`); where one meets a matmul or is added to something, that
is an encounter, which `_uses` turns into a factored contribution to the kernel. A call
is opened only if a weight enters it and only if that keeps derivatives as they are: a
custom derivative rule, a loop, a branch or a checkpoint stays closed, and a weight that
enters one is opaque: it is treated through its own Jacobian.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax.extend.core as jex
import jax.numpy as jnp
from jaxtyping import Array

from ntkflow.kernels._chains import RULES, Atom, Chain, start_chain

OPENED: Final = frozenset({"jit", "pjit", "closed_call", "core_call"})
"""Calls that only group equations."""


class Step(NamedTuple):
    """One equation.

    Attributes:
        equation: The equation as JAX wrote it.
        inputs: Slots or literals read.
        outputs: Slots written.
    """

    equation: jex.JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name


class Encounter(NamedTuple):
    """A step in which a leaf enters linearly and the other operand is known.

    Attributes:
        step: Index of the step: a matmul, or an addition of equal shapes.
        side: Which input the leaf is.
        chain: How that input is made from the leaf.
    """

    step: int
    side: int
    chain: Chain


class Program(NamedTuple):
    """A function of (leaves, one example) as steps over numbered slots.

    Attributes:
        steps: The equations in order.
        inputs: Slots of the leaves, then of the example.
        constants: Values known beforehand.
        outputs: The atom that holds the outputs [K].
        avals: Shape and dtype of every slot.
        scalars: For an array that repeats one number, where that number is.
        encounters: Where leaves are used in a way that factors.
        opaque: (step, leaf) for every other use; step −1 is the output itself.
    """

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    constants: Mapping[int, Any]
    outputs: tuple[Atom, ...]
    avals: Sequence[Any]
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


def flatten(jaxpr: jex.ClosedJaxpr, n_leaves: int) -> Program:
    """Flatten a traced function and find where its leaves are used.

    Args:
        jaxpr: The function (leaves, example) -> outputs.
        n_leaves: How many of its inputs are trained leaves; they come first.

    Returns:
        The program.
    """
    walk = _Walk()
    inputs = [walk.new(v.aval) for v in jaxpr.jaxpr.invars]
    for leaf, slot in enumerate(inputs[:n_leaves]):
        walk.chains[slot] = start_chain(leaf, walk.avals[slot].shape)
    consts = [
        walk.constant(c, v)
        for c, v in zip(jaxpr.consts, jaxpr.jaxpr.constvars, strict=True)
    ]
    outputs = walk.enter(jaxpr.jaxpr, consts, inputs)
    walk.opaque += [
        (-1, walk.chains[atom].leaf)
        for atom in outputs
        if isinstance(atom, int) and atom in walk.chains
    ]
    return walk.program(inputs, outputs)


def run(
    program: Program,
    leaves: Sequence[Array],
    x: Array,
    taps: Mapping[int, Array],
) -> tuple[Array, dict[int, Any]]:
    """Evaluate the program, adding a tap to the slots that have one.

    Args:
        program: The program.
        leaves: Its trained leaves.
        x: One example.
        taps: What to add to a slot; zeros, so that the derivative with respect to a
            tap is the cotangent of its slot.

    Returns:
        The outputs [K], and the value of every slot.
    """
    env: dict[int, Any] = dict(program.constants)

    def write(slot: int, value: Any) -> None:
        env[slot] = value + taps[slot] if slot in taps else value

    for slot, value in zip(program.inputs, [*leaves, x], strict=True):
        write(slot, value)
    for step in program.steps:
        equation = step.equation
        primitive = equation.primitive
        values = [read(env, atom) for atom in step.inputs]
        with equation.ctx.manager:
            result = primitive.bind(
                *values, **primitive.get_bind_params(equation.params)
            )
        results = result if primitive.multiple_results else [result]
        for slot, value in zip(step.outputs, results, strict=True):
            write(slot, value)
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


class _Walk:
    """What is known so far while a jaxpr is walked front to back."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.avals: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.chains: dict[int, Chain] = {}
        self.scalars: dict[int, Atom] = {}
        self.encounters: list[Encounter] = []
        self.opaque: list[tuple[int, int]] = []

    def program(self, inputs: Sequence[int], outputs: Sequence[Atom]) -> Program:
        return Program(
            steps=tuple(self.steps),
            inputs=tuple(inputs),
            constants=self.constants,
            outputs=tuple(outputs),
            avals=self.avals,
            scalars=self.scalars,
            encounters=tuple(self.encounters),
            opaque=tuple(self.opaque),
        )

    def new(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def constant(self, value: Any, var: jex.Var) -> int:
        slot = self.new(var.aval)
        self.constants[slot] = value
        return slot

    def chain(self, atom: Atom) -> Chain | None:
        return self.chains.get(atom) if isinstance(atom, int) else None

    def enter(
        self, jaxpr: jex.Jaxpr, consts: Sequence[Atom], inputs: Sequence[Atom]
    ) -> list[Atom]:
        env: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def lookup(v: Any) -> Atom:
            return v if isinstance(v, jex.Literal) else env[v]

        for equation in jaxpr.eqns:
            atoms = tuple(lookup(v) for v in equation.invars)
            weighs = any(self.chain(atom) is not None for atom in atoms)
            if weighs and equation.primitive.name in OPENED:
                params = equation.params
                called = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
                closed = called.consts if isinstance(called, jex.ClosedJaxpr) else ()
                inner = called.jaxpr if isinstance(called, jex.ClosedJaxpr) else called
                held = [
                    self.constant(c, v)
                    for c, v in zip(closed, inner.constvars, strict=True)
                ]
                results = self.enter(inner, held, atoms)
            else:
                results = tuple(self.new(v.aval) for v in equation.outvars)
                self.steps.append(Step(equation, atoms, results))
                self.follow(self.steps[-1], weighs)
            env.update(zip(equation.outvars, results, strict=True))
        return [lookup(v) for v in jaxpr.outvars]

    def follow(self, step: Step, weighs: bool) -> None:
        """Say what the newest step does to every chain that enters it."""
        if step.name == "broadcast_in_dim" and self.shape(step.inputs[0]) == ():
            self.scalars[step.outputs[0]] = step.inputs[0]
        if not weighs:
            return
        index = len(self.steps) - 1
        for side, atom in enumerate(step.inputs):
            chain = self.chain(atom)
            if chain is None:
                continue
            longer = self.extend(step, side, chain)
            if longer is not None:
                self.chains[step.outputs[0]] = longer
            elif self.meets(step, side):
                self.encounters.append(Encounter(index, side, chain))
            else:
                self.opaque.append((index, chain.leaf))

    def extend(self, step: Step, side: int, chain: Chain) -> Chain | None:
        """The chain of the step's output, if the step only moves or scales."""
        shape = self.shape(step.outputs[0])
        if step.name in RULES and len(step.inputs) == 1:
            return RULES[step.name](chain, step.equation.params, shape)
        if step.name == "mul" or (step.name == "div" and side == 0):
            other = step.inputs[1 - side]
            number = other if self.shape(other) == () else self.scalars.get(other)
            # A number times a number: each factor is the other's scale, and only one
            # of them could go on as the chain.
            if number is not None and shape == self.shape(step.inputs[side]) != ():
                return chain.scaled(number, inverse=step.name == "div")
        return None

    def meets(self, step: Step, side: int) -> bool:
        """Whether the step is a matmul or an addition that `_uses` can factor."""
        real = jnp.issubdtype(self.avals[step.outputs[0]].dtype, jnp.floating)
        if not real:
            return False
        other = step.inputs[1 - side] if len(step.inputs) == 2 else None
        if step.name == "dot_general":
            return not step.equation.params["dimension_numbers"][1][0]
        if step.name in {"add", "sub"}:
            # Of two leaves that are added, neither gains from being factored.
            same = self.shape(step.inputs[side]) == self.shape(step.outputs[0])
            return same and self.chain(other) is None
        return False

    def shape(self, atom: Atom) -> tuple[int, ...]:
        return (self.avals[atom] if isinstance(atom, int) else atom.aval).shape
