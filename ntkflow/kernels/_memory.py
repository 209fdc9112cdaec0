"""How much memory a kernel may use while it is computed."""

import os
from typing import Final

import jax

FRACTION: Final = 0.25
"""Part of the device's total memory a kernel may use unless `max_bytes` says otherwise.

Total and not free memory: the plan of a kernel, hence its last digits, must not depend
on what else happens to be running.
"""


def default_max_bytes() -> int:
    """The bound on working memory that `max_bytes=None` stands for.

    Returns:
        A quarter of the total memory of the default device, in bytes.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None and "bytes_limit" in stats:
        total = stats["bytes_limit"]
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(FRACTION * total)
