"""In which form each leaf is contracted.

The part of a weight used at S positions is Σ_{s,s'} ⟨g_s, g'_s'⟩⟨u_s, u'_s'⟩. All forms
are exact; they differ in which two of the four factors are multiplied first, so in
operations and memory. The fewest operations are taken, leaf by leaf, from shapes alone.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ntkflow.kernels._methods import JACOBIAN, Request
from ntkflow.kernels._program import Program
from ntkflow.kernels._uses import Group, group_uses
from ntkflow.kernels._walk import flatten

FACTORED: Final = "factored"
"""⟨g, g'⟩ and ⟨u, u'⟩ first, then the sum over pairs of positions."""

NESTED: Final = "nested"
"""⟨u, u'⟩ first, times g', then with g: no pair of outputs for a pair of positions."""

ASSEMBLED: Final = "assembled"
"""Σ_s g_s u_sᵀ first: the Jacobian, then the product of two of them."""

KEEPING: Final = frozenset({FACTORED, NESTED})
"""Forms that need cotangents and operands when pairs are contracted."""

ELEMENTWISE: Final = 8
"""Operations of a matmul that take as long as one multiply-add of the elementwise sum
over positions, which is bound by memory."""

SMALL: Final = 1.5
"""Operations of one large product that take as long as one operation of the products of
the nested form, which are as many as there are pairs of examples."""


class Factors(NamedTuple):
    """How each trained leaf enters the kernel.

    Attributes:
        program: The flattened function.
        groups: For each leaf its groups of stacked uses; None for a leaf that is used
            in other ways.
        forms: For each leaf the form it is contracted in.
        options: For each leaf with groups its operations in every form there is.
    """

    program: Program
    groups: tuple[tuple[Group, ...] | None, ...]
    forms: tuple[str, ...]
    options: tuple[dict[str, float], ...]

    @property
    def known(self) -> tuple[Group, ...]:
        """All groups of all leaves."""
        return tuple(group for groups in self.groups for group in groups or ())

    @property
    def kept(self) -> tuple[Group, ...]:
        """All groups whose cotangents and operands are kept."""
        return self.of(KEEPING)

    def of(self, forms: Collection[str]) -> tuple[Group, ...]:
        """All groups of the leaves in some forms.

        Args:
            forms: The forms.

        Returns:
            The groups.
        """
        return tuple(
            group
            for groups, form in zip(self.groups, self.forms, strict=True)
            if form in forms
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
    forms = [JACOBIAN] * n_leaves
    options: list[dict[str, float]] = [{} for _ in range(n_leaves)]
    # Weights before biases: a bias then finds the products of cotangents made.
    order = sorted(
        range(n_leaves), key=lambda i: -sum(g.n_columns for g in groups[i] or ())
    )
    for leaf in order:
        found = groups[leaf]
        if found is None:
            continue
        flops = options[leaf] = _form_flops(request, found, shared)
        forms[leaf] = min(flops, key=lambda form: flops[form])
        if forms[leaf] == FACTORED:
            shared.update(group.taps for group in found)
    return Factors(program, tuple(groups), tuple(forms), tuple(options))


def _form_flops(
    request: Request, groups: Sequence[Group], shared: set[object]
) -> dict[str, float]:
    """Operations of a leaf by form; of forms that need as many the first is best."""
    flops = {
        FACTORED: sum(
            (factored_flops(request, g, g.taps in shared) for g in groups), 0.0
        )
    }
    if request.layout.name == "full":  # else it takes no fewer than the factored form
        flops[NESTED] = sum((nested_flops(request, g) for g in groups), 0.0)
    flops[ASSEMBLED] = sum((jacobian_flops(request, g) for g in groups), 0.0)
    return flops


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


def nested_flops(request: Request, group: Group) -> float:
    """Operations of a group in nested form.

    Args:
        request: What is to be computed.
        group: The group.

    Returns:
        Equivalent operations of a matmul.
    """
    rows = group.n_rows * request.traced.n_outputs
    operands = 2 if group.looks_up else 2 * group.n_columns
    first = group.n_positions * (operands + 2 * rows)
    second = 2 * rows * request.traced.n_outputs
    positions = request.contracted * group.n_blocks * group.n_positions
    return SMALL * positions * (first + second)


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
