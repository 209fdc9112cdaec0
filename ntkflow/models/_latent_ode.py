"""The latent ODE: a time series from a latent state that follows an equation."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ._checks import check_size, resolve_dtype
from ._depth import Depth
from ._frozen import Frozen


@final
class RNNEncoder(eqx.Module):
    """A gated recurrent network over a series, read from its end, then a linear map.

    Args:
        in_size: Numbers in one observation.
        out_size: Numbers returned; twice the latent size for `LatentODE`.
        width: Units of the recurrent state.
        key: Random key.
        dtype: Dtype of the parameters; None for JAX's default float.

    Source: Chen et al. (2018), section 5 (the recognition network runs backwards).
    Verified by: tests/models/test_latent_ode.py::test_encoder_reads_from_the_end
    """

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        for name, size in [
            ("in_size", in_size),
            ("out_size", out_size),
            ("width", width),
        ]:
            check_size("RNNEncoder", name, size)
        k1, k2 = jax.random.split(key)
        kind = resolve_dtype(dtype)
        self.cell = eqx.nn.GRUCell(in_size, width, dtype=kind, key=k1)
        self.readout = eqx.nn.Linear(width, out_size, dtype=kind, key=k2)

    def __call__(self, x: Float[Array, "T d"]) -> Float[Array, " out"]:
        """Read one series.

        Args:
            x: Observations in their order.

        Returns:
            The readout of the recurrent state after the first observation.
        """

        def step(h: Array, xt: Array) -> tuple[Array, None]:
            return self.cell(xt, h), None

        start = jnp.zeros(self.cell.hidden_size, x.dtype)
        last, _ = jax.lax.scan(step, start, x, reverse=True)
        return self.readout(last)


@final
class LatentODE(eqx.Module):
    """A series decoded from z(t), dz/dt = v(t, z), z(0) = μ(x) + exp(s(x)) ε.

    The noise ε is drawn once and `Frozen`, the same for every example, so that outputs
    and kernel are functions of the parameters alone. Steps end at the times decoded.

    Args:
        encoder: x -> [2d], the mean μ and the logarithm s of the standard deviation;
            such as `RNNEncoder`.
        field: The vector field v on latent states [d].
        decoder: Latent state -> observation.
        size: Numbers d in the latent state.
        ts: Increasing times in (0, t1] at which the series is decoded.
        depth: The solve; by default up to the last of `ts`.
        key: Random key of the noise; None for ε = 0, the mean's series.
        dtype: Dtype of the noise; None for JAX's default float.

    Raises:
        ValueError: If a size is not valid, or the times do not fit in the depth; when
            called, if the encoder's output is not of shape [2d].

    Source: Chen et al. (2018), section 5, eqs. 11 to 13; Rubanova, Chen and Duvenaud
        (2019), section 3.
    Verified by: tests/models/test_latent_ode.py::test_series_of_a_linear_field
    """

    encoder: Callable[..., Any]
    field: Callable[..., Any]
    decoder: Callable[..., Any]
    noise: Frozen
    depth: Depth
    ts: tuple[float, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self,
        encoder: Callable[..., Any],
        field: Callable[..., Any],
        decoder: Callable[..., Any],
        size: int,
        ts: Sequence[float] | Float[np.ndarray, " T"],
        depth: Depth | None = None,
        *,
        key: PRNGKeyArray | None = None,
        dtype: DTypeLike | None = None,
    ):
        check_size("LatentODE", "size", size)
        times = tuple(float(t) for t in ts)
        kind = resolve_dtype(dtype)
        self.encoder = encoder
        self.field = field
        self.decoder = decoder
        self.size = size
        self.ts = times
        self.depth = Depth(times[-1] if times else 1.0) if depth is None else depth
        self.depth.reached(times)
        noise = jnp.zeros(size, kind)
        if key is not None:
            noise = jax.random.normal(key, (size,), kind)
        self.noise = Frozen(noise)

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " out"]:
        """The series decoded from one example.

        Args:
            x: One example, whatever the encoder takes.

        Returns:
            The observations at all times, one after the other.

        Raises:
            ValueError: If the encoder's output is not of shape [2 size].
        """
        code = self.encoder(x)
        if code.shape != (2 * self.size,):
            raise ValueError(
                "LatentODE: the encoder must return means and logarithms of standard "
                f"deviations, shape [{2 * self.size}] for size={self.size}, got "
                f"{list(code.shape)}."
            )
        mean, log_std = code[: self.size], code[self.size :]
        z0 = mean + jnp.exp(log_std) * self.noise.tree.astype(code.dtype)
        states = self.depth.along(self.field, z0, np.asarray(self.ts))
        return jnp.ravel(jax.vmap(self.decoder)(states))
