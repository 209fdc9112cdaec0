"""Which of several processes may use a directory."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def claim(folder: str | Path) -> Generator[bool]:
    """Claims a directory until the block ends, or the process does in whatever way.

    Args:
        folder: The directory, which is there.

    Yields:
        Whether no other claim holds it. Where the system knows no locks (Windows, some
        network file systems) there is no telling, and this is always true.

    Verified by: tests/storage/test_claim.py::test_a_directory_is_claimed_once_at_a_time
    """
    descriptor = None if fcntl is None else os.open(folder, os.O_RDONLY)
    try:
        yield descriptor is None or _lock(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)  # and with it the lock


def _lock(descriptor: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
