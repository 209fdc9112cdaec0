"""Settings every test runs under: float64, no silent promotion, checked shapes."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# One thread pool per worker: two cores shared by two workers, not oversubscribed.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# More than half of a test's time is compilation, and half of that goes into the kernels
# that XLA makes of fused operations. Without them numbers differ by rounding. A release
# that does not know the flag ends its process, so another process is asked, once: the
# workers of pytest-xdist have what the first one found.
if "PYTEST_XDIST_WORKER" not in os.environ:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        check=False,
    )
    if asked.returncode == 0:
        os.environ["XLA_FLAGS"] = flags

# Many tests compile the same functions, and so do the commands that they start.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[1] / ".pytest_cache" / "xla"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every annotated shape and dtype of the library is checked at run time, which takes a
# tenth of the time and 20 seconds to begin with. Those parts of the gate skip it whose
# functions are called by the other tests.
if os.environ.get("NTKFLOW_CHECK_SHAPES", "1") != "0":
    jaxtyping.install_import_hook("ntkflow", "beartype.beartype")


def pytest_collection_finish() -> None:
    """Fewer and smaller rounds of garbage collection, a tenth of the time of tracing.

    What was imported lasts, and what a trace makes is in few cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


MAPS = Path("/proc/self/maps")
MANY = 20_000
"""Pieces of mapped memory after which programs are dropped; Linux allows 65,530, and a
process that compiles when it has no more of them crashes."""


@pytest.fixture(scope="module", autouse=True)
def programs_do_not_pile_up() -> Iterator[None]:
    """Every compiled program holds some pieces of mapped memory while it is cached."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def key() -> jax.Array:
    """A key that every test may split as it likes."""
    return jax.random.key(20260)


@pytest.fixture
def cheaply_compiled() -> Iterator[None]:
    """Compiles with hardly any optimization, in two thirds of the time.

    For claims that keep their tolerances however they are compiled, as formulas do.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
