"""Which leaves are contracted in factored form and which through their Jacobian.

Both are exact. The factored form costs S² products per pair of outputs, the Jacobian
as many as the leaf has numbers; the cheaper by count of operations is taken, leaf by
leaf, from shapes alone.
"""

from typing import Final, NamedTuple

from ntkflow.kernels._methods import Request
from ntkflow.kernels._program import Program, flatten
from ntkflow.kernels._uses import Group, group_uses

ELEMENTWISE: Final = 8
"""Operations of a matmul that take as long as one multiply-add of the elementwise sum
over positions, which is bound by memory."""


class Factors(NamedTuple):
    """How each trained leaf enters the kernel.

    Attributes:
        program: The flattened function.
        groups: For each leaf its groups of stacked uses; None for a leaf treated
            through its Jacobian.
    """

    program: Program
    groups: tuple[tuple[Group, ...] | None, ...]

    @property
    def factored(self) -> tuple[Group, ...]:
        """All groups of all factored leaves."""
        return tuple(group for groups in self.groups for group in groups or ())


def choose_factors(request: Request, n_leaves: int) -> Factors:
    """Decide for every leaf.

    Args:
        request: What is to be computed.
        n_leaves: Number of trained leaves.

    Returns:
        The decision.
    """
    program = flatten(request.traced.jaxpr, n_leaves)
    groups = group_uses(program, n_leaves)
    shared: set[object] = set()
    chosen: dict[int, tuple[Group, ...] | None] = {}
    # Weights before biases: a bias then finds the products of cotangents made.
    order = sorted(
        range(n_leaves), key=lambda i: -sum(g.n_columns for g in groups[i] or ())
    )
    for leaf in order:
        found = groups[leaf]
        if found is None:
            chosen[leaf] = None
            continue
        factored = sum(_factored_flops(request, g, g.taps in shared) for g in found)
        plain = sum(_jacobian_flops(request, g) for g in found)
        chosen[leaf] = found if factored <= plain else None
        if chosen[leaf] is not None:
            shared.update(group.taps for group in found)
    return Factors(program, tuple(chosen[leaf] for leaf in range(n_leaves)))


def _outputs(request: Request) -> int:
    """Pairs of outputs whose products are formed; the trace forms the equal ones."""
    return max(request.pairs, request.traced.n_outputs)


def _factored_flops(request: Request, group: Group, shared: bool) -> int:
    pairs = request.n1 * request.n2 * group.n_positions**2
    cotangents = 0 if shared else 2 * group.n_rows * _outputs(request)
    sum_over_positions = ELEMENTWISE * request.pairs
    return pairs * (cotangents + 2 * group.n_columns + sum_over_positions)


def _jacobian_flops(request: Request, group: Group) -> int:
    numbers = group.n_rows * group.n_columns
    n_examples = request.n1 + (0 if request.x2 is None else request.n2)
    formed = n_examples * request.traced.n_outputs * group.n_positions
    contracted = request.n1 * request.n2 * _outputs(request)
    return 2 * numbers * (formed + contracted)
