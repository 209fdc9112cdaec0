"""The ways of computing a kernel, each a small final class behind one abstract one."""

import abc
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example, Traced
from ntkflow.kernels._layouts import AbstractLayout


class Request(NamedTuple):
    """What is to be computed.

    Attributes:
        example: The outputs of one example.
        traced: The same, written out.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns; None for those along the rows.
        layout: Which pairs of outputs are kept.
        by_leaf: Whether every leaf's part is wanted by itself.
        max_bytes: Bound on the working memory.
    """

    example: Example
    traced: Traced
    params: Params
    x1: Shaped[Array, "N1 ..."]
    x2: Shaped[Array, "N2 ..."] | None
    layout: AbstractLayout
    by_leaf: bool
    max_bytes: int

    @property
    def n1(self) -> int:
        """Examples along the rows."""
        return self.x1.shape[0]

    @property
    def n2(self) -> int:
        """Examples along the columns."""
        return self.n1 if self.x2 is None else self.x2.shape[0]

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the kernel."""
        return self.traced.kernel_dtype

    @property
    def pairs(self) -> int:
        """Entries of the kernel for a pair of examples."""
        return self.layout.pairs(self.traced.n_outputs)

    @property
    def work(self) -> int:
        """Bytes a reverse pass over one example needs besides what it returns."""
        size = max(self.traced.dtype.itemsize, self.dtype.itemsize)
        return self.traced.activations * (1 + self.traced.n_outputs) * size


class AbstractMethod(eqx.Module):
    """A way of computing a kernel."""

    name: eqx.AbstractClassVar[str]

    @abc.abstractmethod
    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
