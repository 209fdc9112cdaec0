"""The continuous normalizing flow: log-density by its change along depth."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ._checks import check_size
from ._depth import Depth
from ._frozen import Frozen


@final
class CNF(eqx.Module):
    """log p(x) = log N(z(t1); 0, 1) + ∫ tr ∂v/∂z dt from z(0) = x, on ONE example.

    Depth runs from the data to the base. The trace is exact, at d derivatives of the
    field; with probes ε, fixed and `Frozen`, it is Hutchinson's mean of εᵀ(∂v/∂z)ε,
    unbiased over draws of the probes. The same probes serve every example and step,
    so that outputs and kernel are functions of the parameters alone.

    Args:
        field: The vector field v, any module called as `field(t, z)`.
        size: Numbers d in an example.
        probes: How many probes; None for the exact trace.
        depth: The solve.
        key: Random key of the probes; needed with them.

    Raises:
        ValueError: If a size is not valid, or probes have no key.

    Source: Chen et al. (2018), theorem 1; Grathwohl, Chen, Bettencourt, Sutskever and
        Duvenaud (2019), section 3.1 (fixed probes).
    Verified by: tests/models/test_depth_oracles.py::test_density_has_the_closed_form,
        tests/models/test_cnf.py::test_probes_of_every_sign_give_the_exact_trace
    """

    field: Callable[..., Any]
    probes: Frozen | None
    depth: Depth
    size: int = eqx.field(static=True)

    def __init__(
        self,
        field: Callable[..., Any],
        size: int,
        probes: int | None = None,
        depth: Depth | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ):
        check_size("CNF", "size", size)
        self.field = field
        self.size = size
        self.depth = Depth() if depth is None else depth
        self.probes = None
        if probes is not None:
            check_size("CNF", "probes", probes)
            if key is None:
                raise ValueError(
                    f"CNF: the {probes} probes are random and need a `key`; without "
                    "`probes` the trace is exact."
                )
            self.probes = Frozen(jax.random.rademacher(key, (probes, size), jnp.int8))

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " 1"]:
        """The log-density of one example.

        Args:
            x: The example.

        Returns:
            log p(x), in nats.

        Raises:
            ValueError: If x is not of shape [size].
        """
        if x.shape != (self.size,):
            raise ValueError(
                f"CNF takes ONE example of shape [{self.size}], got {list(x.shape)}. "
                "Map a batch with jax.vmap."
            )
        start = x, jnp.zeros((), x.dtype)
        z, gained = self.depth(_WithTrace(self.field, self.probes), start)
        base = -0.5 * jnp.sum(z**2) - 0.5 * self.size * float(np.log(2 * np.pi))
        return (base + gained)[None]


@final
class _WithTrace(eqx.Module):
    """The field beside the rate at which it gains log-density."""

    field: Callable[..., Any]
    probes: Frozen | None

    @property
    def jumps(self) -> tuple[float, ...]:
        return tuple(getattr(self.field, "jumps", ()))

    def __call__(
        self, t: Float[Array, ""], state: tuple[Float[Array, " d"], Float[Array, ""]]
    ) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        z, _ = state
        velocity, push = jax.linearize(lambda z: self.field(t, z), z)
        if self.probes is None:
            return velocity, jnp.trace(jax.vmap(push)(jnp.eye(z.size, dtype=z.dtype)))
        probes = self.probes.tree.astype(z.dtype)
        pushed = jax.vmap(push)(probes)
        return velocity, jnp.mean(jnp.sum(probes * pushed, axis=1))
