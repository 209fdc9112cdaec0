"""How much memory a kernel may use while it is computed."""

import functools
from typing import Final

import jax
import psutil

from ntkflow.kernels._cgroups import cgroup_limit

FRACTION: Final = 0.25
"""Part of the device's total memory a kernel may use unless `max_bytes` says otherwise.

Total and not free memory: the plan of a kernel, hence its last digits, must not depend
on what else happens to be running.
"""


def default_max_bytes() -> int:
    """The bound on working memory that `max_bytes=None` stands for.

    Verified by: tests/kernels/test_cgroups.py::test_a_limit_below_the_memory_counts

    Returns:
        A quarter of the total memory of the default device, in bytes; on a CPU, of what
        a container or a batch system leaves to this process.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None and "bytes_limit" in stats:
        total = stats["bytes_limit"]
    else:
        total = host_bytes()
    return int(FRACTION * total)


@functools.cache  # a limit that is moved while a process runs must not change its plans
def host_bytes() -> int:
    """Memory of this machine that this process may use.

    Returns:
        Bytes.
    """
    total = psutil.virtual_memory().total
    limit = cgroup_limit()
    return total if limit is None else min(total, limit)
