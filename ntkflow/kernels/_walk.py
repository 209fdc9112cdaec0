"""Reading a jaxpr once, front to back: what becomes of each trained leaf.

Leaves are followed through layout operations (`_chains`); where one meets a matmul, a
convolution or a lookup, or is added to something, that is an encounter, which `_uses`
turns into a factored contribution to the kernel. A call or a loop is opened only if a
weight enters it and only if that keeps derivatives as they are: a custom derivative
rule or a branch stays closed, and a weight that enters one is opaque: it is treated
through its own Jacobian.
"""

from collections.abc import Sequence
from typing import Any, Final

import jax.extend.core as jex
import jax.numpy as jnp
from jax.lax import GatherScatterMode as Mode

from ntkflow._equations import opened, parameters, scan_counts
from ntkflow.kernels._chains import RULES, Atom, Chain, start_chain
from ntkflow.kernels._program import Encounter, Frame, Loop, Program, Step
from ntkflow.kernels._rounding import bits_left

OPENED: Final = frozenset({
    *("jit", "pjit", "closed_call", "core_call"),
    *("checkpoint", "remat", "remat2"),
})
"""Calls that only group equations, or say what to recompute, by all their names."""


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
    outputs = walk.enter(jaxpr.jaxpr, walk.constants_of(jaxpr), inputs)
    walk.forget(-1, outputs)
    return walk.program(inputs, outputs)


class _Walk:
    """What is known so far while a jaxpr is walked front to back."""

    def __init__(self) -> None:
        self.frame: Frame = ()
        self.steps: list[Step] = []
        self.avals: list[Any] = []
        self.frames: list[Frame] = []
        self.lengths: list[int] = []
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
            frames=self.frames,
            lengths=self.lengths,
            scalars=self.scalars,
            encounters=tuple(self.encounters),
            opaque=tuple(self.opaque),
        )

    def new(self, aval: Any) -> int:
        self.avals.append(aval)
        self.frames.append(self.frame)
        return len(self.avals) - 1

    def constants_of(self, jaxpr: jex.ClosedJaxpr | jex.Jaxpr) -> list[int]:
        if not isinstance(jaxpr, jex.ClosedJaxpr):
            return []
        # Known beforehand, so outside of every loop.
        frame, self.frame = self.frame, ()
        slots = [self.new(v.aval) for v in jaxpr.jaxpr.constvars]
        self.frame = frame
        self.constants.update(zip(slots, jaxpr.consts, strict=True))
        return slots

    def chain(self, atom: Atom) -> Chain | None:
        return self.chains.get(atom) if isinstance(atom, int) else None

    def forget(self, step: int, atoms: Sequence[Atom]) -> None:
        """Gives up the leaves that reach these atoms."""
        chains = [self.chain(atom) for atom in atoms]
        self.opaque += [(step, chain.leaf) for chain in chains if chain is not None]

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
                params = parameters(equation)
                called = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
                held = self.constants_of(called)
                results = self.enter(opened(called), held, atoms)
            elif weighs and equation.primitive.name == "scan":
                results = self.open_loop(equation, atoms)
            else:
                results = tuple(self.new(v.aval) for v in equation.outvars)
                self.steps.append(Step(equation, atoms, results, self.frame))
                self.follow(self.steps[-1], weighs)
            env.update(zip(equation.outvars, results, strict=True))
        return [lookup(v) for v in jaxpr.outvars]

    def open_loop(
        self, equation: jex.JaxprEqn, atoms: tuple[Atom, ...]
    ) -> tuple[int, ...]:
        n_consts, n_carry = scan_counts(equation)
        params = parameters(equation)
        number, outer = len(self.lengths), self.frame
        self.lengths.append(params["length"])
        held = self.constants_of(params["jaxpr"])
        body = opened(params["jaxpr"])
        self.frame = (*outer, number)
        inputs = [self.new(v.aval) for v in body.invars[n_consts:]]
        elements = zip(inputs[n_carry:], atoms[n_consts + n_carry :], strict=True)
        for slot, atom in elements:
            chain = self.chain(atom)
            if chain is not None:
                self.chains[slot] = chain.iterated(number)
        outputs = self.enter(body, held, [*atoms[:n_consts], *inputs])
        self.frame = outer
        loop = Loop(number, tuple(inputs), tuple(outputs), n_consts, n_carry)
        results = tuple(self.new(v.aval) for v in equation.outvars)
        # A leaf that is carried along or collected is no longer followed.
        index = len(self.steps)
        self.forget(index, [*atoms[n_consts : n_consts + n_carry], *outputs])
        self.steps.append(Step(equation, atoms, results, outer, loop))
        return results

    def follow(self, step: Step, weighs: bool) -> None:
        """Say what the newest step does to every chain that enters it."""
        if step.name == "broadcast_in_dim" and self.shape(step.inputs[0]) == ():
            self.scalars[step.outputs[0]] = step.inputs[0]
        if not weighs or step.name == "stop_gradient":
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
        if bits_left(step.equation) is not None:
            return None
        if step.name in RULES and len(step.inputs) == 1:
            return RULES[step.name](chain, parameters(step.equation), shape)
        if step.name == "mul" or (step.name == "div" and side == 0):
            other = step.inputs[1 - side]
            number = other if self.shape(other) == () else self.scalars.get(other)
            # A number times a number: each factor is the other's scale, and only one
            # of them could go on as the chain.
            if number is not None and shape == self.shape(step.inputs[side]) != ():
                return chain.scaled(number, inverse=step.name == "div")
        return None

    def meets(self, step: Step, side: int) -> bool:
        """Whether the step uses the leaf in a way that `_uses` can factor."""
        real = jnp.issubdtype(self.avals[step.outputs[0]].dtype, jnp.floating)
        # Of a product that is rounded, reverse mode rounds the leaf's cotangent too.
        if not real or bits_left(step.equation) is not None:
            return False
        params = parameters(step.equation)
        if step.name in {"broadcast_in_dim", "dot_general"}:
            return True
        if step.name == "conv_general_dilated":
            return side == 1 and params["batch_group_count"] == 1
        if step.name in {"gather", "dynamic_slice"}:
            return side == 0 and self.looks_up_rows(step)
        if step.name in {"add", "sub"}:
            # Of two leaves that are added, neither gains from being factored.
            same = self.shape(step.inputs[side]) == self.shape(step.outputs[0])
            return same and self.chain(step.inputs[1 - side]) is None
        return False

    def looks_up_rows(self, step: Step) -> bool:
        """Whether a step takes whole rows, by an index along the first axis alone."""
        shape, params = self.shape(step.inputs[0]), parameters(step.equation)
        if len(shape) < 2 or tuple(params["slice_sizes"]) != (1, *shape[1:]):
            return False
        if step.name == "dynamic_slice":
            return True
        numbers = params["dimension_numbers"]
        return (
            not numbers.operand_batching_dims
            and 0 in numbers.start_index_map
            and set(numbers.collapsed_slice_dims) <= {0}
            and (len(numbers.start_index_map) == 1 or params["mode"] == Mode.CLIP)
        )

    def shape(self, atom: Atom) -> tuple[int, ...]:
        return (self.avals[atom] if isinstance(atom, int) else atom.aval).shape
