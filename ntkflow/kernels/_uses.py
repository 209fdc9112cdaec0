"""Where the cotangent of a matmul is tapped, and which uses of a leaf belong together.

A use of a weight W in h = W u contributes g uᵀ to ∂f/∂W, with g = ∂f/∂h. Uses that
read the leaf the same way are stacked along a common axis of positions: S rows of g and
S of u, with ∂f/∂W = Σ_s g_s u_sᵀ whatever the origin of a position: a token, a time
step, a second layer that shares the weight. Uses that read the leaf in different ways
(a weight beside its own transpose) do not stack, and the leaf is left to its Jacobian.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ntkflow.kernels._chains import Atom, Scale, Stage, disjoint, length
from ntkflow.kernels._program import Encounter, Program


class Use(NamedTuple):
    """One factored use of a leaf.

    Attributes:
        tap: Slot whose cotangent is g.
        positions: Axes of the tap that are positions.
        rows: Axes of the tap that pair with the leaf's rows, in the leaf's order.
        operand: What the leaf is multiplied with; None where it is added.
        operand_positions: Axes of the operand that are positions.
        operand_columns: Axes of the operand that were contracted, in the leaf's order.
        scales: Scalar factors between leaf and tap.
        sign: Their sign.
    """

    tap: int
    positions: tuple[int, ...]
    rows: tuple[int, ...]
    operand: Atom | None
    operand_positions: tuple[int, ...]
    operand_columns: tuple[int, ...]
    scales: tuple[Scale, ...]
    sign: float


class Group(NamedTuple):
    """Uses of one leaf that are stacked along positions.

    Attributes:
        uses: The uses.
        n_positions: S.
        n_rows: R, numbers in a g.
        n_columns: C, numbers in a u; 1 where the leaf is added.
    """

    uses: tuple[Use, ...]
    n_positions: int
    n_rows: int
    n_columns: int

    @property
    def taps(self) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
        """What the stacked g is read off: equal for groups that share it."""
        return tuple((use.tap, use.positions, use.rows) for use in self.uses)


class _Reading(NamedTuple):
    """How a use reads its leaf: uses stack if this is equal."""

    stages: tuple[Stage, ...]
    rows: frozenset[int]


def group_uses(program: Program, n_leaves: int) -> list[tuple[Group, ...] | None]:
    """Group the uses of every leaf.

    Args:
        program: The flattened function.
        n_leaves: Number of trained leaves.

    Returns:
        For each leaf its groups, none if it is not used at all, or None if it must be
        treated through its Jacobian.
    """
    live = _live_steps(program)
    opaque = {leaf for step, leaf in program.opaque if step in live or step < 0}
    consumers = _consumers(program, live)
    readings: list[dict[_Reading, list[Use]]] = [{} for _ in range(n_leaves)]
    for encounter in program.encounters:
        leaf = encounter.chain.leaf
        if encounter.step in live and leaf not in opaque:
            reading, use = _describe(program, encounter, consumers)
            readings[leaf].setdefault(reading, []).append(use)
    groups: list[tuple[Group, ...] | None] = []
    for leaf, read in enumerate(readings):
        stages = [reading.stages for reading in read]
        apart = all(
            disjoint(a, b) for i, a in enumerate(stages) for b in stages[i + 1 :]
        )
        if leaf in opaque or not apart:
            groups.append(None)
        else:
            groups.append(tuple(_stack(program, uses) for uses in read.values()))
    return groups


def _stack(program: Program, uses: list[Use]) -> Group:
    def size(atom: Atom, axes: tuple[int, ...]) -> int:
        return math.prod(program.aval(atom).shape[axis] for axis in axes)

    first = uses[0]
    columns = first.operand_columns
    return Group(
        uses=tuple(uses),
        n_positions=sum(size(use.tap, use.positions) for use in uses),
        n_rows=size(first.tap, first.rows),
        n_columns=1 if first.operand is None else size(first.operand, columns),
    )


def _describe(
    program: Program,
    encounter: Encounter,
    consumers: Mapping[int, list[tuple[int, int]]],
) -> tuple[_Reading, Use]:
    step = program.steps[encounter.step]
    side, chain = encounter.side, encounter.chain
    slot = step.outputs[0]
    rank = len(program.aval(slot).shape)
    sign = -1.0 if chain.negative else 1.0
    if step.name == "dot_general":
        contracted = step.equation.params["dimension_numbers"][0]
        mine, others = contracted[side], contracted[1 - side]
        free = [d for d in range(len(chain.axes)) if d not in mine]
        operand = step.inputs[1 - side]
        operand_rank = len(program.aval(operand).shape)
        operand_positions = tuple(d for d in range(operand_rank) if d not in others)
        first = 0 if side == 0 else rank - len(free)
        order = sorted(range(len(mine)), key=lambda i: chain.axes[mine[i]])
        operand_columns = tuple(int(others[i]) for i in order)
    else:
        free = list(range(rank))
        operand, operand_positions, operand_columns, first = None, (), (), 0
        sign = -sign if step.name == "sub" and side == 1 else sign
    outer = range(first, first + len(free))
    rows = sorted(range(len(free)), key=lambda i: chain.axes[free[i]])
    tap, scales, flip = _sink(program, slot, consumers)
    use = Use(
        tap=tap,
        positions=tuple(d for d in range(rank) if d not in outer),
        rows=tuple(first + i for i in rows),
        operand=operand,
        operand_positions=operand_positions,
        operand_columns=operand_columns,
        scales=(*chain.scales, *scales),
        sign=sign * flip,
    )
    long = frozenset(chain.axes[d] for d in free if length(chain, chain.axes[d]) != 1)
    return _Reading(chain.stages, long), use


def _sink(
    program: Program, slot: int, consumers: Mapping[int, list[tuple[int, int]]]
) -> tuple[int, tuple[Scale, ...], float]:
    """Follow a slot to where it is last alone: through sums and scalar factors.

    ∂f/∂h is the same before and after h is added to something, so that all terms of a
    sum, the bias among them, share one tap and one product of cotangents.
    """  # ruff: ignore[docstring-missing-returns]
    scales: list[Scale] = []
    sign = 1.0
    while len(consumers.get(slot, ())) == 1:
        index, side = consumers[slot][0]
        step = program.steps[index] if index >= 0 else None
        if step is None or step.name not in {"add", "sub", "mul", "div", "neg"}:
            break
        if program.aval(step.outputs[0]).shape != program.aval(slot).shape:
            break
        if step.name in {"mul", "div"}:
            number = program.scalar(step.inputs[1 - side])
            if number is None or (step.name == "div" and side == 1):
                break
            scales.append(Scale(number, step.name == "div"))
        elif step.name == "neg" or (step.name == "sub" and side == 1):
            sign = -sign
        slot = step.outputs[0]
    return slot, tuple(scales), sign


def _live_steps(program: Program) -> set[int]:
    wanted = {atom for atom in program.outputs if isinstance(atom, int)}
    live = set()
    for index in reversed(range(len(program.steps))):
        step = program.steps[index]
        if wanted.intersection(step.outputs):
            live.add(index)
            wanted.update(atom for atom in step.inputs if isinstance(atom, int))
    return live


def _consumers(program: Program, live: set[int]) -> dict[int, list[tuple[int, int]]]:
    """(step, side) of every live reader of a slot; step −1 is the output."""
    readers: dict[int, list[tuple[int, int]]] = {}
    for index in sorted(live):
        for side, atom in enumerate(program.steps[index].inputs):
            if isinstance(atom, int):
                readers.setdefault(atom, []).append((index, side))
    for atom in program.outputs:
        if isinstance(atom, int):
            readers.setdefault(atom, []).append((-1, 0))
    return readers
