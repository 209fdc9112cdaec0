"""Which uses of a leaf belong together, and where the cotangent of each is tapped.

A use of a weight W in h = W u contributes g uᵀ to ∂f/∂W, with g = ∂f/∂h. Uses that
read the leaf the same way are stacked along a common axis of positions: S rows of g and
S of u, with ∂f/∂W = Σ_s g_s u_sᵀ whatever the origin of a position: a token, a pixel, a
time step, a second layer that shares the weight. A leaf that consists of B matrices
used side by side (heads, groups of a convolution, layers in a loop) has as many blocks.
Uses that read the leaf in different ways (a weight beside its own transpose) do not
stack, and the leaf is left to its Jacobian.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ntkflow.kernels._chains import Atom, Scale, Stage, disjoint
from ntkflow.kernels._describe import describe
from ntkflow.kernels._program import Encounter, Program
from ntkflow.kernels._views import Rows, View, size_of


class Use(NamedTuple):
    """One factored use of a leaf.

    Axes are those of the tap or the viewed operand with one leading axis for each loop
    around the tap.

    Attributes:
        tap: Slot whose cotangent is g.
        tap_shape: Shape its cotangent is given first.
        blocks: Axes of the tap that are blocks.
        positions: Axes of the tap that are positions.
        rows: Axes of the tap that pair with the leaf's rows, in the leaf's order.
        operand: What the leaf is multiplied with; None for ones.
        view: How the operand is read; None for as it is.
        operand_blocks: Axes of the viewed operand that are blocks.
        operand_positions: Axes of the viewed operand that are positions.
        operand_columns: Axes of it that were contracted, in the leaf's order.
        n_columns: Numbers they span.
        scales: Scalar factors between leaf and tap.
        sign: Their sign.
    """

    tap: int
    tap_shape: tuple[int, ...]
    blocks: tuple[int, ...]
    positions: tuple[int, ...]
    rows: tuple[int, ...]
    operand: Atom | None
    view: View | None
    operand_blocks: tuple[int, ...]
    operand_positions: tuple[int, ...]
    operand_columns: tuple[int, ...]
    n_columns: int
    scales: tuple[Scale, ...]
    sign: float

    @property
    def dropping(self) -> object:
        """The indices that say where g is dropped; None where it is not."""
        if isinstance(self.view, Rows) and self.view.drops:
            return self.operand, self.view, self.operand_positions
        return None


class Reading(NamedTuple):
    """How a use reads its leaf: uses stack, and are contracted, if this is equal.

    Attributes:
        stages: Axes that the leaf's numbers are addressed by.
        rows: Axes of the last stage that are rows.
        blocks: Where along the leaf its blocks run, as (stage, axis).
        split: Into how many blocks the rows are split.
        looked_up: Whether the operand is an index.
    """

    stages: tuple[Stage, ...]
    rows: frozenset[int]
    blocks: tuple[tuple[int, int], ...]
    split: int
    looked_up: bool


class Group(NamedTuple):
    """Uses of one leaf that are stacked along positions.

    Attributes:
        reading: How all of them read the leaf.
        uses: The uses.
        n_blocks: B.
        n_positions: S.
        n_rows: R, numbers in a g.
        n_columns: C, numbers in a u; 1 where the leaf is added or repeated.
    """

    reading: Reading
    uses: tuple[Use, ...]
    n_blocks: int
    n_positions: int
    n_rows: int
    n_columns: int

    @property
    def taps(self) -> tuple[object, ...]:
        """What the stacked g is read off: equal for groups that share it."""
        return tuple(
            (use.tap, use.tap_shape, use.blocks, use.positions, use.rows, use.dropping)
            for use in self.uses
        )

    @property
    def looks_up(self) -> bool:
        """Whether the operands are rows of the identity."""
        return isinstance(self.uses[0].view, Rows)


def group_uses(program: Program, n_leaves: int) -> list[tuple[Group, ...] | None]:
    """Group the uses of every leaf.

    Args:
        program: The flattened function.
        n_leaves: Number of trained leaves.

    Returns:
        For each leaf its groups, none if it is not used at all or holds no number, or
        None if it must be treated through its Jacobian.
    """
    live = _live_steps(program)
    opaque = {leaf for step, leaf in program.opaque if step in live or step < 0}
    consumers = _consumers(program, live)
    readings: list[dict[Reading, list[Use]]] = [{} for _ in range(n_leaves)]
    for encounter in program.encounters:
        leaf = encounter.chain.leaf
        if encounter.step in live and leaf not in opaque:
            reading, use = _use(program, encounter, consumers)
            readings[leaf].setdefault(reading, []).append(use)
    groups: list[tuple[Group, ...] | None] = []
    for leaf, read in enumerate(readings):
        stages = [reading.stages for reading in read]
        apart = all(
            disjoint(a, b) for i, a in enumerate(stages) for b in stages[i + 1 :]
        )
        empty = 0 in program.avals[program.inputs[leaf]].shape
        if not empty and (leaf in opaque or not apart):
            groups.append(None)
        else:
            every = {} if empty else read
            found = [_stack(reading, uses) for reading, uses in every.items()]
            groups.append(tuple(group for group in found if group.n_positions))
    return groups


def match_groups(
    rows: tuple[Group, ...] | None, columns: tuple[Group, ...] | None
) -> tuple[tuple[Group, ...], tuple[Group, ...]] | None:
    """The groups of a leaf in two functions, those that are contracted side by side.

    Uses that read different numbers of the leaf have no part in the kernel of both.

    Args:
        rows: The leaf's groups in one function, as `group_uses` found them.
        columns: Its groups in the other.

    Returns:
        As many groups of each, in one order; or None if the leaf must be treated
        through its Jacobian, since it is read in two ways that do not stack.

    Verified by: tests/kernels/test_cross.py::test_leaves_are_matched_use_by_use
    """
    if rows == () or columns == ():  # one of the functions does not depend on the leaf
        return (), ()
    if rows is None or columns is None:
        return None
    found: list[tuple[Group, Group]] = []
    for row in rows:
        for column in columns:
            if row.reading == column.reading:
                found.append((row, column))
            elif not disjoint(row.reading.stages, column.reading.stages):
                return None
    return tuple(row for row, _ in found), tuple(column for _, column in found)


def _stack(reading: Reading, uses: list[Use]) -> Group:
    first = uses[0]
    return Group(
        reading=reading,
        uses=tuple(uses),
        n_blocks=size_of(first.tap_shape, first.blocks),
        n_positions=sum(size_of(use.tap_shape, use.positions) for use in uses),
        n_rows=size_of(first.tap_shape, first.rows),
        n_columns=first.n_columns,
    )


def _use(
    program: Program,
    encounter: Encounter,
    consumers: Mapping[int, list[tuple[int, int]]],
) -> tuple[Reading, Use]:
    meeting, chain = describe(program, encounter), encounter.chain
    step = program.steps[encounter.step]
    frame, n_loops = step.frame, len(step.frame)
    last = len(chain.stages) - 1
    # Every block once: where it runs along the leaf, the tap and the operand.
    blocks = [
        ((block.stage, block.axis), frame.index(block.loop), frame.index(block.loop))
        for block in chain.blocks
    ]
    blocks += [
        ((last, axis), n_loops + tap, n_loops + operand)
        for axis, tap, operand in zip(
            meeting.block_axes, meeting.blocks, meeting.operand_blocks, strict=True
        )
    ]
    blocks.sort()
    taken = {frame.index(block.loop) for block in chain.blocks}
    repeated = tuple(i for i in range(n_loops) if i not in taken)

    def shifted(axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n_loops + axis for axis in axes)

    tap, scales, flip = _sink(program, step.outputs[0], consumers)
    use = Use(
        tap=tap,
        tap_shape=(*program.counts(frame), *meeting.shape),
        blocks=tuple(axis for _, axis, _ in blocks),
        positions=(*repeated, *shifted(meeting.positions)),
        rows=shifted(meeting.rows),
        operand=meeting.operand,
        view=meeting.view,
        operand_blocks=tuple(axis for _, _, axis in blocks),
        operand_positions=(*repeated, *shifted(meeting.operand_positions)),
        operand_columns=shifted(meeting.operand_columns),
        n_columns=meeting.n_columns,
        scales=(*chain.scales, *scales),
        sign=meeting.sign * flip * (-1.0 if chain.negative else 1.0),
    )
    reading = Reading(
        chain.stages,
        meeting.row_axes,
        tuple(where for where, _, _ in blocks if where[1] >= 0),
        meeting.split,
        isinstance(meeting.view, Rows),
    )
    return reading, use


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
        if step.frame != program.frames[slot]:
            break  # used once in every iteration of a loop
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
            read = (
                step.inputs if step.loop is None else (*step.inputs, *step.loop.outputs)
            )
            wanted.update(atom for atom in read if isinstance(atom, int))
    return live


def _consumers(program: Program, live: set[int]) -> dict[int, list[tuple[int, int]]]:
    """(step, side) of every live reader of a slot; −1 for an output, also of a body."""
    readers: dict[int, list[tuple[int, int]]] = {}
    ends = list(program.outputs)
    for index in sorted(live):
        step = program.steps[index]
        # What a loop only hands into its body is read there.
        handed = 0 if step.loop is None else step.loop.n_consts
        ends += () if step.loop is None else step.loop.outputs
        for side, atom in enumerate(step.inputs[handed:]):
            if isinstance(atom, int):
                readers.setdefault(atom, []).append((index, side))
    for atom in ends:
        if isinstance(atom, int):
            readers.setdefault(atom, []).append((-1, 0))
    return readers
