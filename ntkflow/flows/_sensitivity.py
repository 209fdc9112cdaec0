"""The sensitivity equations of a Neural ODE, and their adjoint, as flows in depth.

The textbook's way to the Jacobian, before any discretization: equations beside the
state's own, solved to a tolerance that counts them as well. For teaching, and an oracle
of what differentiates a discrete solve; a kernel takes `nf.ntk`, which is 16 to 230
times faster than forward sensitivities.
"""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Shaped

from .._errors import unknown_name
from .._precision import at_full_precision
from .._types import Params, SensitivityMode
from ..models import Depth, NeuralODE, partition

_MODES = ("forward", "adjoint")


@final
class Sensitivity(eqx.Module):
    """∂f/∂θ of a `NeuralODE` by equations of its own.

    Forward, from S(0) = ∂E/∂θ with the state:

        ż = v(t, z; θ),    Ṡ = v_z S + v_θ,    J = R_z S(t1) + ∂R/∂θ,

    for `chunk` parameters at a time. Adjoint, back from A(t1) = R_z with the state:

        Ȧ = −A v_z,    J = A(0) ∂E/∂θ + ∫ A v_θ dt + ∂R/∂θ.

    The error of a step is the largest of those of the state and of each column or row
    beside it, so that the tolerances hold for S and A as well. The adjoint goes back
    along a state that is solved backwards: where the field contracts strongly, that is
    unstable, and the forward equations are the ones to trust.

    Attributes:
        mode: `"forward"` or `"adjoint"`.
        rtol: Relative tolerance of a step; None for the model's own.
        atol: Absolute tolerance of a step; None for the model's own.
        chunk: Parameters whose forward sensitivities are solved for at once.

    Raises:
        ValueError: If the mode is unknown or the chunk is no positive number.

    Source: Hairer, Norsett and Wanner (1993), section I.14, eq. 14.7 (forward); Chen,
        Rubanova, Bettencourt and Duvenaud (2018), eqs. 4 and 5 (adjoint).
    Verified by: tests/flows/test_sensitivity.py::test_both_give_the_closed_form
    """

    mode: SensitivityMode = eqx.field(static=True, default="forward")
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float | None = eqx.field(static=True, default=None)
    chunk: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        if self.mode not in _MODES:
            raise unknown_name("mode", self.mode, _MODES)
        if not isinstance(self.chunk, int) or self.chunk < 1:
            raise ValueError(
                f"Sensitivity: `chunk` must be a positive integer, got {self.chunk!r}."
            )

    @at_full_precision
    def jacobian(
        self,
        model: PyTree,
        x: Shaped[Array, "..."],
        trainable: PyTree | None = None,
    ) -> Params:
        """The Jacobian of one example.

        Args:
            model: The Neural ODE.
            x: One example; `jax.vmap` maps over several.
            trainable: Which leaves count, as for `nf.ntk`.

        Returns:
            The trained leaves' structure, each with the K outputs as a first axis.

        Raises:
            ValueError: If the model is no `NeuralODE`, ends its depth at an event, or
                its controller has no tolerances.
        """
        if not isinstance(model, NeuralODE) or model.depth.event is not None:
            raise ValueError(
                "Sensitivity.jacobian takes a NeuralODE whose depth ends at t1, got "
                f"{type(model).__name__}"
                + (" with an event" if isinstance(model, NeuralODE) else "")
                + ". Differentiate others with jax.jacrev, or use nf.ntk."
            )
        params, static = partition(model, trainable)
        flat, unravel = ravel_pytree(params)
        parts = _Parts(flat, static, unravel)
        solve = self._forward if self.mode == "forward" else self._adjoint
        rows = solve(parts, model, x)
        return jax.vmap(unravel)(rows)

    def _depth(self, model: NeuralODE, dtype: Any) -> Depth:
        own = model.depth.tolerances(dtype)
        if own is None and None in {self.rtol, self.atol}:
            raise ValueError(
                "Sensitivity: the model's step size controller has no tolerances. Set "
                "`rtol` and `atol`."
            )
        rtol, atol = own or (1.0, 1.0)
        return Depth(
            model.depth.t1,
            solver=model.depth.solver,
            controller=diffrax.PIDController(
                rtol=rtol if self.rtol is None else self.rtol,
                atol=atol if self.atol is None else self.atol,
                norm=_largest,
            ),
            adjoint=diffrax.ForwardMode(),
            max_steps=model.depth.max_steps,
        )

    def _forward(
        self, parts: "_Parts", model: NeuralODE, x: Shaped[Array, "..."]
    ) -> Float[Array, "K P"]:
        size, chunk = parts.flat.size, min(self.chunk, parts.flat.size)
        z0 = model.encode(x)
        depth = self._depth(model, z0.dtype)

        def columns(start: Array) -> Float[Array, "chunk K"]:
            # Beyond the last parameter the directions are zero, and cut off below.
            which = start + jnp.arange(chunk)
            directions = jax.nn.one_hot(which, size, dtype=parts.flat.dtype)

            def push(function: Any, *tangents: Any) -> Any:
                return jax.vmap(lambda *d: function(d))(*tangents)

            s0 = push(
                lambda d: jax.jvp(lambda p: parts(p).encode(x), (parts.flat,), d)[1],
                directions,
            )
            z, s = depth(_Forward(parts, directions, _jumps(model)), (z0, s0))
            return push(
                lambda d: jax.jvp(lambda p, z: parts(p).decode(z), (parts.flat, z), d)[
                    1
                ],
                directions,
                s,
            )

        found = jax.lax.map(columns, jnp.arange(0, size, chunk))
        return found.reshape(-1, found.shape[-1])[:size].T

    def _adjoint(
        self, parts: "_Parts", model: NeuralODE, x: Shaped[Array, "..."]
    ) -> Float[Array, "K P"]:
        z0 = model.encode(x)
        depth = self._depth(model, z0.dtype)
        end = depth(model.field, z0)
        f, pull = jax.vjp(lambda p, z: parts(p).decode(z), parts.flat, end)
        outside, a1 = jax.vmap(pull)(jnp.eye(f.size, dtype=f.dtype))
        field = _Adjoint(parts, model.depth.t1, _jumps(model))
        _, a0, inside = depth(field, (end, a1, jnp.zeros_like(outside)))
        _, pull = jax.vjp(lambda p: parts(p).encode(x), parts.flat)
        return outside + inside + jax.vmap(lambda a: pull(a)[0])(a0)


class _Parts(eqx.Module):
    """The model as a function of its trained parameters, one flat array."""

    flat: Float[Array, " P"]
    static: PyTree
    unravel: Any = eqx.field(static=True)

    def __call__(self, flat: Float[Array, " P"]) -> NeuralODE:
        return eqx.combine(self.unravel(flat), self.static)


@final
class _Forward(eqx.Module):
    """(z, S) -> (v, v_z S + v_θ), a column of S at a time."""

    parts: _Parts
    directions: Float[Array, "chunk P"]
    jumps: tuple[float, ...]

    def __call__(self, t: Float[Array, ""], state: Any) -> Any:
        z, s = state

        def field(p: Array, z: Array) -> Array:
            return self.parts(p).field(t, z)

        at = self.parts.flat, z
        v = field(*at)
        moved = jax.vmap(lambda *d: jax.jvp(field, at, d)[1])(self.directions, s)
        return v, moved


@final
class _Adjoint(eqx.Module):
    """(z, A, ∫ A v_θ) in the time t1 − t that runs back."""

    parts: _Parts
    t1: float
    times: tuple[float, ...]

    @property
    def jumps(self) -> tuple[float, ...]:
        return tuple(sorted(self.t1 - t for t in self.times))

    def __call__(self, back: Float[Array, ""], state: Any) -> Any:
        z, a, _ = state
        t = self.t1 - back
        v, pull = jax.vjp(lambda p, z: self.parts(p).field(t, z), self.parts.flat, z)
        gained, moved = jax.vmap(pull)(a)
        return -v, moved, gained


def _jumps(model: NeuralODE) -> tuple[float, ...]:
    return tuple(getattr(model.field, "jumps", ()))


def _largest(errors: PyTree) -> Float[Array, ""]:
    """The largest root mean square: of the state, and of each row beside it."""

    def rms(leaf: Array) -> Array:
        return jnp.sqrt(jnp.mean(leaf**2))

    z, *beside = jtu.tree_leaves(errors)
    return jnp.max(
        jnp.stack([rms(z), *(jnp.max(jax.vmap(rms)(rows)) for rows in beside)])
    )
