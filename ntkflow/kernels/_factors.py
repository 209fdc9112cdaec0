"""Which leaves are contracted in factored form and which through their Jacobian.

Both are exact. The factored form costs S² products per pair of outputs, the Jacobian
as many as the leaf has numbers; the cheaper by count of operations is taken, leaf by
leaf, from shapes alone.
"""

from typing import Final, NamedTuple

from ntkflow.kernels._methods import Request
from ntkflow.kernels._program import Program
from ntkflow.kernels._uses import Group, group_uses
from ntkflow.kernels._walk import flatten

ELEMENTWISE: Final = 8
"""Operations of a matmul that take as long as one multiply-add of the elementwise sum
over positions, which is bound by memory."""


class Factors(NamedTuple):
    """How each trained leaf enters the kernel.

    Attributes:
        program: The flattened function.
        groups: For each leaf its groups of stacked uses; None for a leaf that is used
            in other ways, of which JAX takes the Jacobian.
        factored: For each leaf whether it is contracted in factored form; if not, its
            Jacobian is the sum of outer products over its uses.
    """

    program: Program
    groups: tuple[tuple[Group, ...] | None, ...]
    factored: tuple[bool, ...]

    @property
    def known(self) -> tuple[Group, ...]:
        """All groups of all leaves."""
        return tuple(group for groups in self.groups for group in groups or ())

    @property
    def joined(self) -> tuple[Group, ...]:
        """All groups of factored leaves."""
        return tuple(
            group
            for groups, factored in zip(self.groups, self.factored, strict=True)
            if factored
            for group in groups or ()
        )


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
    factored = [False] * n_leaves
    # Weights before biases: a bias then finds the products of cotangents made.
    order = sorted(
        range(n_leaves), key=lambda i: -sum(g.n_columns for g in groups[i] or ())
    )
    for leaf in order:
        found = groups[leaf]
        if found is None:
            continue
        joined = sum(factored_flops(request, g, g.taps in shared) for g in found)
        plain = sum(jacobian_flops(request, g) for g in found)
        if joined <= plain:
            factored[leaf] = True
            shared.update(group.taps for group in found)
    return Factors(program, tuple(groups), tuple(factored))


def factored_flops(request: Request, group: Group, shared: bool) -> float:
    """Operations of a group in factored form.

    Args:
        request: What is to be computed.
        group: The group.
        shared: Whether another leaf needs the same products of cotangents.

    Returns:
        Equivalent operations of a matmul.
    """
    positions = request.contracted * group.n_blocks * group.n_positions**2
    cotangents = 0 if shared else 2 * group.n_rows * request.formed
    operands = 2 if group.looks_up else 2 * group.n_columns
    sum_over_positions = ELEMENTWISE * request.pairs
    return positions * (cotangents + operands + sum_over_positions)


def jacobian_flops(request: Request, group: Group) -> float:
    """Operations of a group through its Jacobian.

    Args:
        request: What is to be computed.
        group: The group.

    Returns:
        Operations of forming and of contracting it.
    """
    numbers = group.n_blocks * group.n_rows * group.n_columns
    each = group.n_rows if group.looks_up else group.n_rows * group.n_columns
    formed = group.n_blocks * group.n_positions * each * request.traced.n_outputs
    contracted = request.contracted * numbers * request.formed
    return 2 * (request.n_examples * formed + contracted)
