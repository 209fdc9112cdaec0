"""Damaged and crafted runs: whatever reading one raises is told in one way."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from ..storage import CorruptPartError

_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


@contextlib.contextmanager
def telling_faults(path: Path) -> Generator[None]:
    """Tells whatever is wrong with a stored run in one way.

    Args:
        path: Its directory.

    Raises:
        CorruptPartError: For anything that reading a damaged or crafted run raises.
    """
    try:
        yield
    except CorruptPartError:
        raise
    except _FAULTS as error:
        raise CorruptPartError(
            f"The run at {path} cannot be read ({error}): a file of it is missing, cut "
            "short or altered, or does not belong there. Restore the directory, or "
            "simulate again."
        ) from error
