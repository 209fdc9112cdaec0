"""What a machine computes on, how precisely and how fast."""

import importlib.metadata
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._progress import duration

_DIGITS_COMPILE = 45.0
"""Seconds to compile `ntkflow run digits`, on a core of 2024."""

_DIGITS_FLOPS = 4.5e12
"""Arithmetic of `ntkflow run digits`, weighted by how slowly small products run."""

_SIZE = 1024
_REPEATS = 5


def diagnose() -> dict[str, str]:
    """Device, precision, versions and measured speed, in words.

    Returns:
        One line a topic.
    """
    device = jax.devices()[0]
    found = {
        "device": f"{device.platform}: {device.device_kind}, {jax.device_count()} used",
        "cores": str(os.cpu_count()),
        "default precision": str(jnp.zeros(()).dtype),
    }
    for dtype in (jnp.float32, jnp.float64):
        if jnp.zeros((), dtype).dtype != dtype:
            found[f"{np.dtype(dtype)}"] = "switched off (jax_enable_x64)"
            continue
        flops, error = _matmul(dtype)
        found[f"matrix product {np.dtype(dtype)}"] = (
            f"{flops / 1e9:.0f} GFLOP/s, relative error {error:.1e}"
        )
    found["experiment digits"] = _expected_seconds(_matmul(jnp.float64)[0])
    for package in ("ntkflow", "jax", "jaxlib", "equinox", "diffrax"):
        found[package] = importlib.metadata.version(package)
    if device.platform == "cpu":
        found["hint"] = "for an NVIDIA GPU: python -m pip install -e '.[cuda]'"
    return found


def _matmul(dtype: Any) -> tuple[float, float]:
    """Speed of a matrix product at full precision, and its error in float64."""
    key = jax.random.key(0)
    a = jax.random.normal(key, (_SIZE, _SIZE), dtype)

    @jax.jit
    def product(a):
        return jnp.matmul(a, a.T, precision=jax.lax.Precision.HIGHEST)

    result = product(a).block_until_ready()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    exact = np.asarray(a, np.float64) @ np.asarray(a, np.float64).T
    error = np.linalg.norm(np.asarray(result) - exact) / np.linalg.norm(exact)
    return 2 * _SIZE**3 / min(seconds), float(error)


def _expected_seconds(flops: float) -> str:
    """How long `ntkflow run digits` should take here, compilation included."""
    seconds = _DIGITS_COMPILE + _DIGITS_FLOPS / flops
    return f"about {duration(seconds)}"
