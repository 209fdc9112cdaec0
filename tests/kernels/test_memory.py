"""The bound on working memory holds for the process, not only in the plan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..benchmarks.scaling import GIB, RESIDENT

ROOT = Path(__file__).parents[2]


def growth(digits: int, max_bytes: int) -> tuple[int, int]:
    """Bytes a first kernel adds to a fresh process beyond its result, and the result's.

    A high-water mark cannot be lowered, so that every measurement has its own process;
    and what compiling the kernel takes is part of it.
    """
    command = [sys.executable, "-m", "tests.benchmarks.scaling", "--repeat=0"]
    command += [f"--digits={digits}", f"--max-bytes={max_bytes}"]
    done = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["growth"], found["result"]


# What is kept of each of 5,000 digits fits twice into a gibibyte; of 2,500 it is more
# than an eighth of one and has to be made anew for every tile.
@pytest.mark.slow
@pytest.mark.skipif(not RESIDENT.exists(), reason="resident pages are read off /proc")
@pytest.mark.parametrize(("digits", "bound"), [(5000, GIB), (2500, GIB // 8)])
def test_kernel_of_digits_grows_the_process_by_little_more_than_the_bound(
    digits, bound
):
    extra, result = growth(digits, bound)
    assert result == 4 * digits**2
    # A fifth is left to the compiler, the runtime's threads and the allocator.
    assert 0 < extra <= 1.2 * bound, f"{extra:,} bytes"
