"""In which form each leaf is contracted.

The part of a weight used at S positions is Σ_{s,s'} ⟨g_s, g'_s'⟩⟨u_s, u'_s'⟩. All forms
are exact; they differ in which two of the four factors are multiplied first, so in
operations and memory. The fewest operations are taken, leaf by leaf, from shapes alone.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ntkflow.kernels._methods import JACOBIAN, Request
from ntkflow.kernels._program import Program
from ntkflow.kernels._uses import Group, group_uses, match_groups
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

Pair = tuple[Group, Group]
"""Groups of a leaf along the rows and along the columns that read it the same way."""


class Factors(NamedTuple):
    """How each trained leaf enters the kernel, on one of its sides.

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


def choose_factors(request: Request, n_leaves: int) -> tuple[Factors, Factors]:
    """Decide for every leaf.

    Args:
        request: What is to be computed.
        n_leaves: Number of trained leaves.

    Returns:
        The decision for the rows and for the columns: the same forms, and as many
        groups of every leaf. One and the same for one function.
    """
    programs, groups = _matched(request, n_leaves)
    shared: set[object] = set()
    forms = [JACOBIAN] * n_leaves
    options: list[dict[str, float]] = [{} for _ in range(n_leaves)]
    # Weights before biases: a bias then finds the products of cotangents made.
    order = sorted(
        range(n_leaves), key=lambda i: -sum(g.n_columns for g, _ in groups[i] or ())
    )
    for leaf in order:
        found = groups[leaf]
        if found is None:
            continue
        flops = options[leaf] = _form_flops(request, found, shared)
        forms[leaf] = min(flops, key=lambda form: flops[form])
        if forms[leaf] == FACTORED:
            shared.update(taps_of(pair) for pair in found)

    def of_side(side: int) -> Factors:
        own = tuple(
            None if found is None else tuple(pair[side] for pair in found)
            for found in groups
        )
        return Factors(programs[side], own, tuple(forms), tuple(options))

    rows = of_side(0)
    return rows, rows if request.one_function else of_side(1)


def _matched(
    request: Request, n_leaves: int
) -> tuple[tuple[Program, Program], list[tuple[Pair, ...] | None]]:
    """Both programs, and for every leaf its groups in both, pair by pair."""
    program = flatten(request.rows.traced.jaxpr, n_leaves)
    groups = group_uses(program, n_leaves)
    if request.one_function:
        # Groups of a leaf read it apart: each is contracted with itself alone.
        own = [None if g is None else tuple(zip(g, g, strict=True)) for g in groups]
        return (program, program), own
    other = flatten(request.columns.traced.jaxpr, n_leaves)
    pairs = map(match_groups, groups, group_uses(other, n_leaves))
    return (program, other), [
        None if pair is None else tuple(zip(*pair, strict=True)) for pair in pairs
    ]


def taps_of(pair: Pair) -> object:
    """What the product of a pair's cotangents is read off.

    Args:
        pair: A group of the rows and one of the columns.

    Returns:
        Equal for pairs that share it.
    """
    return pair[0].taps, pair[1].taps


def _form_flops(
    request: Request, pairs: Sequence[Pair], shared: set[object]
) -> dict[str, float]:
    """Operations of a leaf by form; of forms that need as many the first is best."""
    flops = {
        FACTORED: sum(
            (factored_flops(request, p, taps_of(p) in shared) for p in pairs), 0.0
        )
    }
    if request.layout.name == "full":  # else it takes no fewer than the factored form
        flops[NESTED] = sum((nested_flops(request, p) for p in pairs), 0.0)
    flops[ASSEMBLED] = sum((jacobian_flops(request, p) for p in pairs), 0.0)
    return flops


def factored_flops(request: Request, pair: Pair, shared: bool) -> float:
    """Operations of a pair of groups in factored form.

    Args:
        request: What is to be computed.
        pair: The groups along the rows and along the columns.
        shared: Whether another leaf needs the same products of cotangents.

    Returns:
        Equivalent operations of a matmul.
    """
    group, other = pair
    pairs = group.n_positions * other.n_positions
    positions = request.contracted * group.n_blocks * pairs
    cotangents = 0 if shared else 2 * group.n_rows * request.formed
    operands = 2 if group.looks_up else 2 * group.n_columns
    sum_over_positions = ELEMENTWISE * request.pairs
    return positions * (cotangents + operands + sum_over_positions)


def nested_flops(request: Request, pair: Pair) -> float:
    """Operations of a pair of groups in nested form.

    Args:
        request: What is to be computed.
        pair: The groups along the rows and along the columns.

    Returns:
        Equivalent operations of a matmul.
    """
    group, other = pair
    outputs, others = request.n_outputs
    rows = group.n_rows * others
    operands = 2 if group.looks_up else 2 * group.n_columns
    first = other.n_positions * (operands + 2 * rows)
    second = 2 * rows * outputs
    positions = request.contracted * group.n_blocks * group.n_positions
    return SMALL * positions * (first + second)


def jacobian_flops(request: Request, pair: Pair) -> float:
    """Operations of a pair of groups through their Jacobians.

    Args:
        request: What is to be computed.
        pair: The groups along the rows and along the columns.

    Returns:
        Operations of forming and of contracting them.
    """
    numbers = pair[0].n_blocks * pair[0].n_rows * pair[0].n_columns
    formed = 0
    for side, group in zip(request.sides, pair, strict=False):
        each = group.n_rows if group.looks_up else group.n_rows * group.n_columns
        formed += (
            side.n_examples * group.n_blocks * group.n_positions * each * side.n_outputs
        )
    contracted = request.contracted * numbers * request.formed
    return 2 * (formed + contracted)
