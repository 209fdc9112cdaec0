"""The ways of computing a kernel, each a small final class behind one abstract one."""

import abc
import math
from typing import Any, Final, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example, Traced
from ntkflow.kernels._layouts import AbstractLayout, OutputCounts
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._tiles import Grid


class Side(NamedTuple):
    """A function and the examples it is evaluated on, along one side of a kernel.

    Attributes:
        example: The outputs of one example.
        traced: The same, written out.
        x: The examples.
    """

    example: Example
    traced: Traced
    x: Shaped[Array, "N ..."]

    @property
    def n_examples(self) -> int:
        """How many examples there are."""
        return self.x.shape[0]

    @property
    def n_outputs(self) -> int:
        """Outputs of an example."""
        return self.traced.n_outputs


class Request(NamedTuple):
    """What is to be computed.

    Attributes:
        params: The trained leaves.
        rows: What is along the rows.
        others: What is along the columns, another function or other examples; None
            where it is the rows again and the kernel symmetric.
        layout: Which pairs of outputs are kept.
        by_leaf: Whether every leaf's part is wanted by itself.
        max_bytes: Bound on the working memory.
    """

    params: Params
    rows: Side
    others: Side | None
    layout: AbstractLayout
    by_leaf: bool
    max_bytes: int

    @property
    def columns(self) -> Side:
        """What is along the columns."""
        return self.rows if self.others is None else self.others

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whatever has to be evaluated, once."""
        return (self.rows,) if self.others is None else (self.rows, self.others)

    @property
    def one_function(self) -> bool:
        """Whether the function along the columns is that along the rows."""
        return self.columns.traced is self.rows.traced

    @property
    def grid(self) -> Grid:
        """The pairs of examples."""
        return Grid(
            self.rows.x,
            None if self.others is None else self.others.x,
            self.layout,
            self.n_outputs,
            self.dtype,
            self.max_bytes,
        )

    @property
    def contracted(self) -> float:
        """Pairs of examples to contract: half of a symmetric kernel's."""
        pairs = self.rows.n_examples * self.columns.n_examples
        return pairs / (2 if self.others is None else 1)

    @property
    def n_outputs(self) -> OutputCounts:
        """Outputs along the rows and along the columns."""
        return self.rows.n_outputs, self.columns.n_outputs

    @property
    def formed(self) -> int:
        """Pairs of outputs whose products are formed; the trace forms equal ones."""
        return max(self.pairs, *self.n_outputs)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the kernel."""
        return np.promote_types(
            *(s.traced.kernel_dtype for s in (self.rows, self.columns))
        )

    @property
    def pairs(self) -> int:
        """Entries of the kernel for a pair of examples."""
        return self.layout.pairs(self.n_outputs)

    def work(self, side: Side) -> int:
        """Bytes of a reverse pass over one example, besides what it returns.

        Args:
            side: Where the example is.

        Returns:
            The bytes.
        """
        traced = side.traced
        size = max(traced.dtype.itemsize, self.dtype.itemsize)
        return traced.activations * (1 + traced.n_outputs) * size


JACOBIAN: Final = "Jacobian"
"""The form of a leaf whose Jacobian reverse mode makes."""


class LeafPlan(NamedTuple):
    """How one trained leaf enters a kernel.

    Attributes:
        form: "factored": ⟨g, g'⟩⟨u, u'⟩; "nested": ⟨g, ⟨u, u'⟩g'⟩; "assembled": its
            Jacobian, from g and u; "Jacobian": its Jacobian, by reverse mode.
        shape: Blocks, positions, rows and columns of each group of uses.
        options: Operations of contracting it, and of assembling its Jacobian, in each
            form there is.
    """

    form: str
    shape: tuple[tuple[int, int, int, int], ...]
    options: dict[str, float]

    @property
    def flops(self) -> float:
        """Operations in the form taken."""
        return self.options[self.form]


def through_jacobian(request: Request, leaf: Array) -> LeafPlan:
    """The plan of a leaf whose Jacobian reverse mode makes.

    Args:
        request: What is to be computed.
        leaf: The leaf.

    Returns:
        Its plan.
    """
    flops = 2 * request.contracted * math.prod(leaf.shape) * request.formed
    return LeafPlan(JACOBIAN, (), {JACOBIAN: flops})


class Estimate(NamedTuple):
    """What a method needs, from shapes alone.

    Attributes:
        passes: Operations of evaluating and differentiating the module.
        contraction: Operations of everything after.
        least: Bytes of working memory of the smallest tiles.
        tiling: The tiles within the memory bound, if the method has any and they fit.
        leaves: How each trained leaf enters.
    """

    passes: float
    contraction: float
    least: int
    tiling: Any
    leaves: tuple[LeafPlan, ...] = ()

    @property
    def flops(self) -> float:
        """All operations."""
        return float(self.passes + self.contraction)


class AbstractMethod(eqx.Module):
    """A way of computing a kernel."""

    name: eqx.AbstractClassVar[str]

    @abc.abstractmethod
    def works_with(self, modes: Modes) -> bool:
        """Whether the derivatives that a function has are enough.

        Args:
            modes: The derivatives.

        Returns:
            Whether the method can be used.
        """

    @abc.abstractmethod
    def estimate(self, request: Request) -> Estimate:
        """What computing a kernel this way needs.

        Args:
            request: What is to be computed.

        Returns:
            Operations and memory.
        """

    @abc.abstractmethod
    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
