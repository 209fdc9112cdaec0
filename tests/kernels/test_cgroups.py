"""Limits of containers and batch systems, on file trees as Linux shows them."""

import os
from pathlib import Path

import psutil
import pytest

from ntkflow.kernels import _memory, default_max_bytes
from ntkflow.kernels._cgroups import cgroup_limit

UNLIMITED = "9223372036854771712"
V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
CPU = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
DOCKER_V1 = (
    "700 690 0:30 /docker/ab /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory"
)
ELSEWHERE = r"35 24 0:30 / /my\040groups\134x rw - cgroup2 none rw"
JOB = "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"


def tree(root: Path, group: str, mounts: list[str], files: dict[str, str]) -> Path:
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(group)
    other = "21 26 0:19 / /proc rw,nosuid - proc proc rw"
    (proc / "mountinfo").write_text("\n".join([other, *mounts, ""]))
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


def v2(files: dict[str, str]) -> dict[str, str]:
    return {f"sys/fs/cgroup/{name}": content for name, content in files.items()}


def v1(files: dict[str, str]) -> dict[str, str]:
    return {f"sys/fs/cgroup/memory/{name}": text for name, text in files.items()}


CASES = {
    "no limit": (
        "0::/a",
        [V2],
        v2({"a/memory.max": "max", "a/memory.high": "max"}),
        None,
    ),
    "own limit": ("0::/a/b", [V2], v2({"a/b/memory.max": "4096000"}), 4096000),
    "throttled before": (
        "0::/a",
        [V2],
        v2({"a/memory.max": "4096000", "a/memory.high": "2048000"}),
        2048000,
    ),
    "throttled at nothing": (
        "0::/a",
        [V2],
        v2({"a/memory.max": "4096000", "a/memory.high": "0"}),
        4096000,
    ),
    "limit of a group above": (
        f"0::/{JOB}",
        [V2],
        v2({
            f"{JOB}/memory.max": "max",
            "system.slice/slurmstepd.scope/job_7/memory.max": "8000000",
            "system.slice/memory.max": "9000000",
        }),
        8000000,
    ),
    "a neighbor's limit": (
        "0::/a/b",
        [V2],
        v2({"a/c/memory.max": "1000", "a/b/memory.max": "max"}),
        None,
    ),
    "in a namespace": ("0::/", [V2], v2({"memory.max": "123456789"}), 123456789),
    "outside of the namespace": (
        "0::/../a",
        [V2],
        v2({"memory.max": "5000000"}),
        5000000,
    ),
    "the tree elsewhere": (
        "0::/a",
        [ELSEWHERE],
        {"my groups\\x/a/memory.max": "7000000"},
        7000000,
    ),
    "version 1, no limit": (
        "4:memory:/a\n2:cpu:/b",
        [CPU, V1],
        v1({"a/memory.limit_in_bytes": UNLIMITED}),
        int(UNLIMITED),
    ),
    "version 1, nested": (
        "4:cpu,memory:/slurm/uid_1/job_7",
        [V1],
        v1({
            "slurm/uid_1/job_7/memory.limit_in_bytes": UNLIMITED,
            "slurm/uid_1/memory.limit_in_bytes": "6000000",
            "memory.limit_in_bytes": UNLIMITED,
        }),
        6000000,
    ),
    "version 1 in docker": (
        "4:memory:/docker/ab",
        [DOCKER_V1],
        v1({"memory.limit_in_bytes": "3000000"}),
        3000000,
    ),
    "version 1, above the mount": (
        "4:memory:/docker/ab",
        [DOCKER_V1],
        v1({
            "memory.limit_in_bytes": UNLIMITED,
            "memory.stat": "cache 0\nhierarchical_memory_limit 2500000\nrss 1",
        }),
        2500000,
    ),
    "both versions": (
        "4:memory:/a\n0::/b",
        [V1, UNIFIED],
        v1({"a/memory.limit_in_bytes": "5000000"})
        | {"sys/fs/cgroup/unified/b/memory.max": "4000000"},
        4000000,
    ),
    "the limit of another kind": (
        "2:cpu:/a",
        [CPU],
        {"sys/fs/cgroup/cpu/a/memory.limit_in_bytes": "1000"},
        None,
    ),
    "nonsense": ("\n:::\nx\n0::", ["a - b", V2], v2({"memory.max": "-5 many"}), None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_tightest_limit_above_holds(tmp_path, name):
    group, mounts, files, expected = CASES[name]
    assert cgroup_limit(tree(tmp_path, group, mounts, files)) == expected


def test_without_cgroups_there_is_no_limit(tmp_path):
    assert cgroup_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "share"), [(None, 1), (1 << 20, 0), (int(UNLIMITED), 1)]
)
def test_a_limit_below_the_memory_counts(monkeypatch, limit, share):
    monkeypatch.setattr(_memory, "cgroup_limit", lambda: limit)
    _memory.host_bytes.cache_clear()
    total = psutil.virtual_memory().total
    assert default_max_bytes() == (total if share else limit) // 4
    monkeypatch.undo()
    _memory.host_bytes.cache_clear()


def test_no_call_that_windows_lacks_is_made(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    _memory.host_bytes.cache_clear()
    assert default_max_bytes() > 2**20
