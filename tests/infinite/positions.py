"""Slow and obvious twins of layers with positions, and moments to try them on."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ntkflow.infinite import Moments
from ntkflow.infinite._compute import Examples, moments_of

LEAVES = ("nngp", "ntk", "own1", "own2")


def any_moments(key, positions, *, channels=None, gaussian=False, masks=(None, None)):
    """Moments of 2 rows and 3 columns that belong to no network: linear maps take any.

    The NNGP kernel and the NTK are unrelated, and no matrix is symmetric.
    """
    square = (*positions, *positions)
    shapes = ((2, 3, *square), (2, 3, *square), (2, *square), (3, *square))
    keys = jax.random.split(key, 4)
    drawn = [jax.random.uniform(k, s) for k, s in zip(keys, shapes, strict=True)]
    return Moments(
        *drawn,
        same=jnp.zeros((2, 3), bool),
        mask1=masks[0],
        mask2=masks[1],
        channels=channels,
        pairs=True,
        gaussian=gaussian,
    )


def at_equal_positions(moments):
    """The same, without the other pairs."""
    return moments.with_moments(
        moments.at_equal_positions(moments.nngp, 2),
        moments.at_equal_positions(moments.ntk, 2),
        moments.variance1,
        moments.variance2,
        pairs=False,
    )


def input_moments(x1, x2):
    """The moments of inputs, for all pairs of positions."""
    first, second = (Examples(x, None, jnp.arange(len(x))) for x in (x1, x2))
    return moments_of(first, second, True)


def window_matrix(positions, size, strides, dilation, padding):
    """All windows as one matrix of zeros and ones: [windows, offsets, positions].

    An entry says that the window looks, with that offset, at the position. Offsets that
    look at nothing are rows of zeros.
    """
    counts, starts = [], []
    for n, k, s, d in zip(positions, size, strides, dilation, strict=True):
        reach = (k - 1) * d + 1
        count = (n - reach) // s + 1 if padding == "VALID" else math.ceil(n / s)
        outside = max((count - 1) * s + reach - n, 0)
        counts.append(count)
        starts.append(outside // 2 if padding != "VALID" else 0)
    windows = list(itertools.product(*map(range, counts)))
    offsets = list(itertools.product(*map(range, size)))
    matrix = np.zeros((len(windows), len(offsets), math.prod(positions)))
    for i, window in enumerate(windows):
        for j, offset in enumerate(offsets):
            place = [
                w * s + o * d - start
                for w, s, o, d, start in zip(
                    window, strides, offset, dilation, starts, strict=True
                )
            ]
            if padding == "CIRCULAR":
                place = [p % n for p, n in zip(place, positions, strict=True)]
            if all(0 <= p < n for p, n in zip(place, positions, strict=True)):
                matrix[i, j, np.ravel_multi_index(place, positions)] = 1
    return matrix, tuple(counts)


def mapped(matrix, moment, examples):
    """Both positions of a moment mapped by a matrix, sums over shared offsets.

    With one matrix for each offset, [T, O, S], both positions have the same offset.
    """
    lead = moment.shape[:examples]
    count = math.isqrt(math.prod(moment.shape[examples:]))
    flat = np.asarray(moment).reshape(*lead, count, count)
    each = matrix if matrix.ndim == 3 else matrix[:, None]
    return sum(each[:, o] @ flat @ each[:, o].T for o in range(each.shape[1]))


def examples_of(leaf):
    """How many axes of examples one of the moments has."""
    return 2 if leaf in {"nngp", "ntk"} else 1


def flattened(moments, leaf):
    """One of the moments with the positions of each side as one axis."""
    moment, examples = np.asarray(getattr(moments, leaf)), examples_of(leaf)
    count = math.prod(moments.positions)
    sides = 2 if moments.pairs else 1
    return moment.reshape(*moment.shape[:examples], *(count,) * sides)
