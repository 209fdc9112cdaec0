"""Whether what a directory holds is what is asked for."""

import hashlib
import re
from typing import Any

import equinox as eqx
import numpy as np

from ._tree import flatten_arrays


def printed(tree: Any) -> str:
    """A pytree as text that is the same in every process.

    Args:
        tree: The pytree.

    Returns:
        Its structure and static values, arrays by shape and dtype alone.
    """
    return re.sub(r" at 0x[0-9a-f]+", "", eqx.tree_pformat(tree))


def fingerprint(*parts: Any) -> str:
    """A digest of everything that determines a computation's numbers.

    Args:
        *parts: Pytrees: arrays count by their bytes, the rest by its printed form.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(printed(part).encode())
        for name, array in flatten_arrays(part).items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
