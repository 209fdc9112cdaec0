"""What one encounter of a leaf with a step amounts to, primitive by primitive."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from jax.lax import GatherScatterMode as Mode

from ntkflow._equations import parameters
from ntkflow.kernels._chains import Atom, Chain, length
from ntkflow.kernels._program import Encounter, Program, Step
from ntkflow.kernels._views import Patches, Rows, View, size_of


class Meeting(NamedTuple):
    """A leaf's use in one step, loops around it apart.

    Attributes:
        shape: Shape the step's result is given, so that its axes have one role each.
        blocks: Axes of the result that are blocks.
        block_axes: Where along the leaf each of them runs.
        positions: Axes of the result that are positions.
        rows: Axes of the result that pair with the leaf's rows, in the leaf's order.
        row_axes: Where along the leaf the rows run.
        operand: What the leaf is multiplied with; None for ones, where it is added or
            repeated.
        view: How the operand is read; None for as it is.
        operand_blocks: Axes of the viewed operand that are blocks.
        operand_positions: Axes of the viewed operand that are positions.
        operand_columns: Axes of it that were contracted, in the leaf's order.
        n_columns: Numbers they span.
        split: Into how many blocks the leaf's rows are split.
        sign: −1 where the leaf is subtracted.
    """

    shape: tuple[int, ...]
    blocks: tuple[int, ...]
    block_axes: tuple[int, ...]
    positions: tuple[int, ...]
    rows: tuple[int, ...]
    row_axes: frozenset[int]
    operand: Atom | None = None
    view: View | None = None
    operand_blocks: tuple[int, ...] = ()
    operand_positions: tuple[int, ...] = ()
    operand_columns: tuple[int, ...] = ()
    n_columns: int = 1
    split: int = 1
    sign: float = 1.0


def describe(program: Program, encounter: Encounter) -> Meeting:
    """Read off a step how a leaf enters it.

    Args:
        program: The flattened function.
        encounter: The step and the leaf.

    Returns:
        The roles of all axes.
    """
    step = program.steps[encounter.step]
    return _RULES[step.name](program, step, encounter.side, encounter.chain)


def _row_axes(chain: Chain, dims: list[int]) -> frozenset[int]:
    axes = [chain.axes[d] for d in dims]
    return frozenset(axis for axis in axes if length(chain, axis) != 1)


def _matmul(program: Program, step: Step, side: int, chain: Chain) -> Meeting:
    contracted, batched = parameters(step.equation)["dimension_numbers"]
    mine, others = contracted[side], contracted[1 - side]
    my_batch, other_batch = batched[side], batched[1 - side]
    free = [d for d in range(len(chain.axes)) if d not in {*mine, *my_batch}]
    operand = step.inputs[1 - side]
    operand_shape = program.aval(operand).shape
    operand_positions = tuple(
        d for d in range(len(operand_shape)) if d not in {*others, *other_batch}
    )
    shape = program.aval(step.outputs[0]).shape
    n_batch = len(my_batch)
    first = n_batch if side == 0 else len(shape) - len(free)
    outer = range(first, first + len(free))
    rows = sorted(range(len(free)), key=lambda i: chain.axes[free[i]])
    columns = sorted(range(len(mine)), key=lambda i: chain.axes[mine[i]])
    operand_columns = tuple(int(others[i]) for i in columns)
    return Meeting(
        shape=shape,
        blocks=tuple(range(n_batch)),
        block_axes=tuple(chain.axes[d] for d in my_batch),
        positions=tuple(d for d in range(n_batch, len(shape)) if d not in outer),
        rows=tuple(first + i for i in rows),
        row_axes=_row_axes(chain, free),
        operand=operand,
        operand_blocks=tuple(int(d) for d in other_batch),
        operand_positions=operand_positions,
        operand_columns=operand_columns,
        n_columns=size_of(operand_shape, operand_columns),
    )


def _convolution(program: Program, step: Step, side: int, chain: Chain) -> Meeting:
    del side
    params = parameters(step.equation)
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    batch, feature, *space = numbers.out_spec
    out_feature, in_feature, *window = numbers.rhs_spec
    result = program.aval(step.outputs[0]).shape
    kernel = program.aval(step.inputs[1]).shape
    n = len(space)
    view = Patches(
        lhs_spec=tuple(numbers.lhs_spec),
        kernel=tuple(kernel[d] for d in window),
        out=tuple(result[d] for d in space),
        strides=tuple(params["window_strides"]),
        padding=tuple((int(low), int(high)) for low, high in params["padding"]),
        lhs_dilation=tuple(params["lhs_dilation"]),
        rhs_dilation=tuple(params["rhs_dilation"]),
        groups=groups,
    )
    # The axis of features becomes two: groups, and features within.
    shape = (
        *result[:feature],
        groups,
        result[feature] // groups,
        *result[feature + 1 :],
    )
    columns = sorted(range(1 + n), key=lambda i: chain.axes[[in_feature, *window][i]])
    return Meeting(
        shape=shape,
        blocks=(feature,),
        block_axes=(chain.axes[out_feature] if groups > 1 else -1,),
        positions=tuple(d + (d > feature) for d in (batch, *space)),
        rows=(feature + 1,),
        row_axes=_row_axes(chain, [out_feature]),
        operand=step.inputs[0],
        view=view,
        operand_blocks=(1 + n,),
        operand_positions=tuple(range(1 + n)),
        operand_columns=tuple(2 + n + i for i in columns),
        n_columns=size_of(kernel, (in_feature, *window)),
        split=groups,
    )


def _lookup(program: Program, step: Step, side: int, chain: Chain) -> Meeting:
    del side
    params, shape = parameters(step.equation), program.aval(step.outputs[0]).shape
    n_rows, *_ = program.aval(step.inputs[0]).shape
    if step.name == "dynamic_slice":
        view = Rows(n_rows, None, drops=False)
        taken, n_indices = list(range(1, len(shape))), 0
    else:
        numbers = params["dimension_numbers"]
        axis = numbers.start_index_map.index(0)
        view = Rows(n_rows, axis, drops=params["mode"] != Mode.CLIP)
        taken = list(numbers.offset_dims)
        if not numbers.collapsed_slice_dims:
            del taken[0]
        n_indices = len(program.aval(step.inputs[1]).shape) - 1
    return Meeting(
        shape=shape,
        blocks=(),
        block_axes=(),
        positions=tuple(d for d in range(len(shape)) if d not in taken),
        rows=tuple(
            taken[i] for i in sorted(range(len(taken)), key=lambda i: chain.axes[1 + i])
        ),
        row_axes=_row_axes(chain, list(range(1, len(chain.axes)))),
        operand=step.inputs[1],
        view=view,
        operand_positions=tuple(range(n_indices)),
        n_columns=n_rows,
    )


def _sum(program: Program, step: Step, side: int, chain: Chain) -> Meeting:
    shape = program.aval(step.outputs[0]).shape
    dims = list(range(len(shape)))
    return Meeting(
        shape=shape,
        blocks=(),
        block_axes=(),
        positions=(),
        rows=tuple(sorted(dims, key=lambda d: chain.axes[d])),
        row_axes=_row_axes(chain, dims),
        sign=-1.0 if step.name == "sub" and side == 1 else 1.0,
    )


def _repeat(program: Program, step: Step, side: int, chain: Chain) -> Meeting:
    del side
    shape = program.aval(step.outputs[0]).shape
    before = program.aval(step.inputs[0]).shape
    targets = parameters(step.equation)["broadcast_dimensions"]
    kept = [d for d, target in enumerate(targets) if before[d] == shape[target]]
    rows = tuple(targets[d] for d in sorted(kept, key=lambda d: chain.axes[d]))
    positions = tuple(d for d in range(len(shape)) if d not in rows)
    return Meeting(
        shape=shape,
        blocks=(),
        block_axes=(),
        positions=positions,
        rows=rows,
        row_axes=_row_axes(chain, list(range(len(before)))),
        operand_positions=tuple(range(len(positions))),
    )


_RULES: Final[Mapping[str, Callable[[Program, Step, int, Chain], Meeting]]] = (
    MappingProxyType({
        "add": _sum,
        "broadcast_in_dim": _repeat,
        "conv_general_dilated": _convolution,
        "dot_general": _matmul,
        "dynamic_slice": _lookup,
        "gather": _lookup,
        "sub": _sum,
    })
)
