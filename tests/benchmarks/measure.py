"""Timing one function in this process: compile time apart, after a warm-up.

Imports nothing but the standard library, so that peers in environments of their own can
use it.
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The largest resident memory of this process so far.

    Where Linux tells the program's own high-water mark, that: what `getrusage` says
    starts from the memory of the process that started this one.

    Returns:
        Bytes.
    """
    if STATUS.exists():
        for line in STATUS.read_text("ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(
    build: Callable[[], Callable[[], Any]], seconds: float | int = 5.0
) -> dict[str, Any]:
    """Times a computation.

    Args:
        build: Compiles; returns a function that computes once and waits for it.
        seconds: How long to repeat it; three times at least, but for runs that take
            several times as long.

    Returns:
        Seconds of compiling, the least CPU and wall seconds of one run, the growth of
        peak memory in bytes, and the number of runs.
    """
    before = peak_bytes()
    began = time.perf_counter()
    run = build()
    run()
    first = time.perf_counter() - began
    cpu, wall = [], []
    while sum(wall) < seconds or (len(wall) < 3 and sum(wall) < 4 * seconds):
        c, w = time.process_time(), time.perf_counter()
        run()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return {
        "compile": first - min(wall),
        "cpu": min(cpu),
        "wall": min(wall),
        "memory": peak_bytes() - before,
        "runs": len(wall),
    }


def report(measured: dict[str, Any]) -> None:
    """Hands a measurement to the process that asked for it.

    Args:
        measured: What `measure` returned.
    """
    print(json.dumps(measured))
