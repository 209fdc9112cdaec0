"""A disk that fills: one sentence, instead of what zarr says of it."""

import contextlib
import errno
from collections.abc import Generator
from pathlib import Path
from typing import Final

_REASONS: Final = {
    getattr(errno, name): reason
    for name, reason in {
        "ENOSPC": "no space is left on the disk",
        "EDQUOT": "the disk quota is used up",
        "EFBIG": "it would be larger than a file may be here (ulimit -f)",
    }.items()
    if hasattr(errno, name)  # Windows has no quotas
}


class DiskFullError(OSError):
    """There is no room to write.

    Attributes:
        sentence: What could not be written, and why.
        errno: The system's code: ENOSPC, EDQUOT or EFBIG.
    """

    def __init__(self, sentence: str, remedy: str, code: int | None):
        super().__init__(f"{sentence} {remedy}")
        self.sentence = sentence
        self.errno = code


@contextlib.contextmanager
def telling_full_disk(path: Path) -> Generator[None]:
    """Tells in one sentence that there is no room.

    Verified by: tests/storage/test_full_disk.py::test_a_full_disk_is_one_sentence

    Args:
        path: What is being written.

    Raises:
        DiskFullError: If there is no room.
    """  # ruff: ignore[docstring-missing-exception]: others pass through
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise DiskFullError(
            f"{path} could not be written: {_REASONS[error.errno]}. Whatever was saved "
            "before is kept as it was.",
            "Make room, or write elsewhere, and call again.",
            error.errno,
        ) from None
