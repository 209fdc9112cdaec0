"""Some positions kept and others dropped, at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractUnitMap
from ntkflow.infinite._moments import Moments

Entry = int | tuple[int | None, int | None, int | None]


@final
class Index(AbstractUnitMap):
    """The units at chosen positions, `x[:, *index]`, such as those of the last word.

    Args:
        index: An integer or a slice for the first axis of positions, or a tuple with
            one for each of the first axes. An integer takes its axis away.

    Raises:
        ValueError: The index is made of anything else.

    Verified by:
    tests/infinite/test_positions.py::test_linear_layers_map_moments_like_inputs
    """

    entries: tuple[Entry, ...] = eqx.field(static=True)

    def __init__(self, index: int | slice | tuple[int | slice, ...]):
        entries = index if isinstance(index, tuple) else (index,)
        for entry in entries:
            if not isinstance(entry, int | slice) or isinstance(entry, bool):
                raise ValueError(
                    "Index takes integers and slices, one for each axis of positions, "
                    f"got {entry!r}. Other choices of positions are the rows of a "
                    "matrix of zeros and ones, for Aggregate."
                )
        # Slices have no hash before Python 3.12, and a static field needs one.
        self.entries = tuple(
            (e.start, e.stop, e.step) if isinstance(e, slice) else e for e in entries
        )

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the units at the positions kept.

        Args:
            moments: Those of the units.

        Returns:
            Those of the same units at fewer positions.

        Raises:
            ValueError: There are no such positions.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions("Index", moments, least=len(self.entries))
        rank = len(moments.positions)
        kept = self._keep(moments.positions)

        def take(moment: Float[Array, "..."], examples: int) -> Float[Array, "..."]:
            sides = 2 if moments.pairs else 1
            rest = (slice(None),) * (rank - len(kept))
            return moment[(slice(None),) * examples + (*kept, *rest) * sides]

        def of_mask(mask: Bool[Array, "N *S"] | None) -> Bool[Array, "N *T"] | None:
            return None if mask is None else mask[slice(None), *kept]

        left = rank - sum(isinstance(entry, int) for entry in kept)
        return moments.with_moments(
            take(moments.nngp, 2),
            take(moments.ntk, 2),
            take(moments.own1, 1),
            take(moments.own2, 1),
            mask1=of_mask(moments.mask1),
            mask2=of_mask(moments.mask2),
            pairs=moments.pairs and left > 0,
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            A module that takes the positions, and the shape of its output.
        """
        self._keep(shape[1:])
        taken = jnp.zeros(shape, bool)[self._index]
        return Pointwise(self._take), taken.shape

    @property
    def _index(self) -> tuple[int | slice, ...]:
        return (
            slice(None),
            *(e if isinstance(e, int) else slice(*e) for e in self.entries),
        )

    def _take(self, x: Shaped[Array, "C *S"]) -> Shaped[Array, "C *T"]:
        return x[self._index]

    def _keep(self, positions: tuple[int, ...]) -> tuple[int | slice, ...]:
        for axis, (n, entry) in enumerate(
            zip(positions, self._index[1:], strict=False)
        ):
            chosen = range(n)[entry] if isinstance(entry, slice) else entry
            empty = isinstance(chosen, range) and len(chosen) == 0
            if empty or (isinstance(chosen, int) and not -n <= chosen < n):
                raise ValueError(
                    f"Index: {entry} chooses none of the {n} positions along axis "
                    f"{axis} of them. Integers run from {-n} to {n - 1}."
                )
        return self._index[1:]
