"""The memory that a container or a batch system leaves to this process (Linux).

Cgroups, in which SLURM, docker and systemd put processes, form a tree; a process may
use what the tightest of the groups above it allows. Version 2 has one tree, version 1
one for memory alone; a machine may have both.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst ("memory.max", "memory.high") and
cgroup-v1/memory.rst ("memory.limit_in_bytes", "hierarchical_memory_limit").
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_FILES = {
    "cgroup2": ("memory.max", "memory.high"),
    "cgroup": ("memory.limit_in_bytes",),
}
"""Files that hold a limit, by the type of the file system."""


class _Mount(NamedTuple):
    kind: str
    group: PurePosixPath
    point: PurePosixPath
    options: tuple[str, ...]


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """The tightest limit on the memory of this process.

    Verified by: tests/kernels/test_cgroups.py::test_the_tightest_limit_above_holds

    Args:
        root: Where the file system begins.

    Returns:
        Bytes; None without a limit, and where there are no cgroups.
    """
    groups = _groups(root)
    limits = [
        limit
        for mount in _mounts(root)
        if _counts_memory(mount) and mount.kind in groups
        for limit in _limits(root, mount, groups[mount.kind])
    ]
    return min(limits, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _groups(root: Path) -> dict[str, PurePosixPath]:
    """The groups this process is in, by the type of the file system that shows them."""
    found = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            found["cgroup2"] = PurePosixPath(group)
        elif "memory" in controllers.split(","):
            found["cgroup"] = PurePosixPath(group)
    return found


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) > 4 and len(kinds) > 2:
            group, point = (PurePosixPath(_plain(path)) for path in fields[3:5])
            yield _Mount(kinds[0], group, point, tuple(kinds[2].split(",")))


def _plain(path: str) -> str:
    """A path of mountinfo, in which blanks and backslashes are octal numbers."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n")):
        path = path.replace(code, character)
    return path.replace("\\134", "\\")


def _counts_memory(mount: _Mount) -> bool:
    return mount.kind == "cgroup2" or "memory" in mount.options


def _limits(root: Path, mount: _Mount, group: PurePosixPath) -> Iterator[int]:
    """The limits of a group and of all above it that this mount shows."""
    try:
        inside = group.relative_to(mount.group)
    except ValueError:
        # A container may see its own group as the root, and its name as the host's.
        inside = PurePosixPath()
    if ".." in inside.parts:
        inside = PurePosixPath()
    for at in (inside, *inside.parents):
        folder = root / mount.point.relative_to("/") / at
        for name in _FILES[mount.kind]:
            yield from _numbers(_lines(folder / name)[:1])
        # Of version 1, groups above the mount count here.
        stat = [line.split() for line in _lines(folder / "memory.stat")]
        yield from _numbers([
            line[1] for line in stat if line[:1] == ["hierarchical_memory_limit"]
        ])


def _numbers(texts: list[str]) -> Iterator[int]:
    for text in texts:
        # "max" is no limit; of none, version 1 has 2⁶³ less a page, above all memory.
        if text.strip().isdecimal() and int(text) > 0:
            yield int(text)
