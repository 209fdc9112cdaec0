"""How time and memory of a kernel of MNIST digits grow with their number: one table.

    python -m tests.benchmarks.scaling [--max-bytes BYTES]

The trace of a fully connected network (784-512-512-512-10) in float32. Every number of
digits is measured in a process of its own, which

    python -m tests.benchmarks.scaling --digits N [--repeat TIMES] [--max-bytes BYTES]

is; it prints one line of JSON. Memory is what the first computation adds to what was
resident before it, compilation included and the result taken off: from the resident
pages before to the high-water mark after.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import ntkflow as nf

from .cases import CASES
from .kernels import ask
from .measure import peak_bytes, report

SIZES = (1250, 2500, 5000)
GIB = 2**30
RESIDENT = Path("/proc/self/statm")


def resident_bytes() -> int:
    """The resident memory of this process now; Linux only.

    Returns:
        Bytes.
    """
    return int(RESIDENT.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_digits(n: int, max_bytes: int, repeat: int) -> dict[str, Any]:
    """Computes the kernel of the first digits once, and again to time it.

    Args:
        n: Number of digits.
        max_bytes: Bound on the working memory.
        repeat: How often to time it once it is compiled.

    Returns:
        Wall seconds of the first run and the least of the others, bytes of the result
        and growth of resident memory beyond it, and the growth over the bound.
    """
    digits = nf.data.mnist(n_train=n, n_test=0, dtype=jnp.float32)
    x = jax.block_until_ready(digits.x_train)
    model = jax.block_until_ready(CASES["mlp-64-trace"].build(jax.random.key(0)))

    def run() -> jax.Array:
        kernel = nf.ntk(model, x, outputs="trace", max_bytes=max_bytes)
        assert isinstance(kernel, jax.Array)
        return kernel.block_until_ready()

    def seconds() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    before, began = resident_bytes(), time.perf_counter()
    result = run().nbytes
    first = time.perf_counter() - began
    growth = peak_bytes() - before - result
    return {
        "first": first,
        "wall": min((seconds() for _ in range(repeat)), default=None),
        "result": result,
        "growth": growth,
        "share": growth / max_bytes,
    }


def main() -> None:
    """Measures one number of digits, or all of them in a process each."""
    parser = argparse.ArgumentParser(description="How kernels of MNIST digits grow.")
    parser.add_argument("--digits", type=int)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--max-bytes", type=int, default=GIB)
    given = parser.parse_args()
    if given.digits is not None:
        report(measure_digits(given.digits, given.max_bytes, given.repeat))
        return
    print("digits    wall s  first s    ratio  growth MB  of the bound", flush=True)
    walls: list[float] = []
    for n in SIZES:
        options = {"digits": n, "repeat": given.repeat, "max-bytes": given.max_bytes}
        words = [word for k, v in options.items() for word in (f"--{k}", str(v))]
        found = ask([sys.executable, "-m", "tests.benchmarks.scaling", *words])
        walls.append(found["wall"])
        print(
            f"{n:>6}{walls[-1]:>10.3f}{found['first']:>9.2f}"
            f"{walls[-1] / walls[0]:>9.2f}{found['growth'] / 1e6:>11.0f}"
            f"{found['share']:>14.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
