"""What the gallery does around each example."""

from typing import Any

import jax


def reset_jax(gallery_conf: dict[str, Any], fname: str) -> None:
    """Every example starts in JAX's own precision, as it does when run alone."""
    del gallery_conf, fname
    jax.config.update("jax_enable_x64", False)
    jax.clear_caches()
