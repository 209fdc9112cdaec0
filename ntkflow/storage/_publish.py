"""Atomic publication: written beside, forced to the disk, renamed over.

Each writer works in a hidden directory next to its target and holds a lock on that
directory. A killed process loses its lock, so the next writer can tell leftovers from
the work of a living neighbor, and removes them.

POSIX replaces a file in one rename. A directory that exists cannot be renamed over; on
Linux the two are exchanged in one system call. Where there is no such call, the old
directory steps aside for the moment between two renames, under a name that
`find_directory` knows.
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path

from ._full_disk import telling_full_disk

try:
    import fcntl
except ImportError:  # Windows: no locks, so leftovers stay until removed by hand
    fcntl = None

_PREFIX = ".ntkflow-"
_SUFFIX = ".tmp"


def write_text(path: str | Path, text: str) -> None:
    """Publishes a UTF-8 text file at once, in place of an earlier one.

    Args:
        path: The file; missing directories above it are made.
        text: Its content; line ends are written as they are.
    """
    write_file(path, lambda temporary: temporary.write_bytes(text.encode()))


def write_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Publishes a file at once, in place of an earlier one.

    Args:
        path: The file; missing directories above it are made.
        write: Called with the path of a file that is not there yet, to make it. If it
            raises, `path` is left as it was; a full disk is a `DiskFullError`.
    """
    path = Path(path)
    with telling_full_disk(path), _workshop(path.parent) as workshop:
        temporary = workshop / path.name
        write(temporary)
        _force_to_disk(temporary)
        os.replace(temporary, path)
        _force_to_disk(path.parent)


def write_new_text(path: str | Path, text: str) -> bool:
    """Publishes a UTF-8 text file at once, unless there is one.

    Args:
        path: The file; missing directories above it are made.
        text: Its content; line ends are written as they are.

    Returns:
        Whether it was written; of several writers at the same time, one is told so.

    Verified by:
        tests/storage/test_claim.py::test_of_many_writers_of_a_new_file_one_wins
    """
    path, content = Path(path), text.encode()
    with telling_full_disk(path), _workshop(path.parent) as workshop:
        temporary = workshop / path.name
        temporary.write_bytes(content)
        _force_to_disk(temporary)
        try:
            _name_first(temporary, path)
        except FileExistsError:
            return False
        _force_to_disk(path.parent)
        return True


def _name_first(temporary: Path, path: Path) -> None:
    """Gives a file a name that nothing has yet; `rename` would take it from another."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with open(path, "xb") as file:
            file.write(temporary.read_bytes())


def write_directory(path: str | Path, write: Callable[[Path], object]) -> None:
    """Publishes a whole directory at once, in place of an earlier one if there is one.

    A reader who opens files one by one while the directory is replaced may meet both
    contents; each single opening finds one of them.

    Args:
        path: The directory; missing directories above it are made.
        write: Called with an empty directory, to fill it. If it raises, `path` is left
            as it was.

    Raises:
        ValueError: If `path` is there and is no directory.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"{path} is a file; expected a directory or nothing. Remove it, or choose "
            "another path."
        )
    with telling_full_disk(path), _workshop(path.parent) as workshop:
        temporary = workshop / path.name
        temporary.mkdir()
        write(temporary)
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _force_to_disk(Path(folder, name))
            _force_to_disk(Path(folder))
        _replace_directory(temporary, path)
        _force_to_disk(path.parent)


def is_leftover(name: str) -> bool:
    """Whether a file name is that of a writer's work, going on or left by a kill.

    Args:
        name: The name, without the directories above it.

    Returns:
        Whether it is; the next writer removes what no living process works on.
    """
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def find_directory(path: str | Path) -> Path:
    """Where the directory published at `path` is to be read.

    Args:
        path: What `write_directory` was given.

    Returns:
        `path` itself, unless a process was killed while it replaced the directory on a
        system that cannot exchange two directories: then the old one, set aside.
    """
    path = Path(path)
    if path.exists():
        return path
    aside = _aside(path)
    return aside if aside.exists() else path


@contextlib.contextmanager
def _workshop(folder: Path) -> Generator[Path]:
    """Yields an empty hidden directory in `folder`, locked; clears away leftovers."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    workshop, lock = _locked_directory(folder)
    try:
        yield workshop
    finally:
        # What cannot be removed now is removed as a leftover by the next writer.
        shutil.rmtree(workshop, ignore_errors=True)
        _unlock(lock)


def _locked_directory(folder: Path) -> tuple[Path, int | None]:
    while True:
        workshop = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        workshop.mkdir()
        lock = _lock(workshop, wait=True)
        # Before the lock was ours, a neighbor may have taken it for a leftover.
        if workshop.exists():
            return workshop, lock
        _unlock(lock)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        lock = _lock(leftover, wait=False)
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            _unlock(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Returns a descriptor that locks `path` until it is closed.

    It returns `None` if a living process holds the lock, if `path` is gone, or if the
    file system knows no locks: in each case `path` is not ours to remove.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _force_to_disk(path: Path) -> None:
    """Returns once the file's bytes, or the directory's names, are on the disk."""
    windows = os.name == "nt"  # opens no directories, flushes only what it may write
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_directory(new: Path, path: Path) -> None:
    aside = _aside(path)
    if aside.exists():  # an earlier writer was killed between its two renames
        if path.exists():
            shutil.rmtree(aside)
        else:
            os.rename(aside, path)
    if not path.exists():
        os.rename(new, path)
    elif not _exchange(new, path):
        os.rename(path, aside)
        os.rename(new, path)
        shutil.rmtree(aside)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _exchange(first: Path, second: Path) -> bool:
    """Returns whether two directories were swapped in one step; some systems cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28, musl 1.2.4
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
