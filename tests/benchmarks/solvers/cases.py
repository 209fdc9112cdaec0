"""The trainings that are timed, and the solvers; float64 throughout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import ntkflow as nf

SAVES = 10
"""Save times of a run, three decades of them up to its end."""


class Case(NamedTuple):
    """A gradient flow to integrate.

    Attributes:
        model: Makes the model.
        n: Number of digits to train on, and at most 100 to test on.
        stiffness: λ_max·T: T is this over the largest eigenvalue, at the start, of the
            Gauss–Newton matrix of the loss times the time scale.
        loss: The loss.
        images: Whether inputs are images and not vectors.
        plateaus: Whether errors grow with the flow, so that they are compared after
            aligning times too.
        tolerances: The relative tolerances tried.
        tight: The relative tolerance of the reference. Every neuron of a ReLU network
            that changes sign at an example makes a kink, which no step of an order can
            pass.
    """

    model: Callable[[Array], Any]
    n: int
    stiffness: float
    loss: nf.SquaredError | nf.CrossEntropy = nf.SquaredError()
    images: bool = False
    plateaus: bool = False
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    tight: float = 1e-10

    def build(self) -> nf.Problem:
        """The problem, its data real digits.

        Returns:
            The problem.
        """
        classes = isinstance(self.loss, nf.CrossEntropy)
        data = nf.data.digits(
            n_train=self.n,
            n_test=min(self.n, 100),
            targets="labels" if classes else "centered",
            flatten=not self.images,
            dtype=jnp.float64,
        )
        return nf.Problem(
            self.model(jax.random.key(0)),
            data.x_train,
            data.y_train,
            x_test=data.x_test,
            y_test=data.y_test,
            loss=self.loss,
        )


def _mlp(
    width: int, activation: str, parameterization: str = "ntk"
) -> Callable[[Array], nf.models.MLP]:
    def make(key: Array) -> nf.models.MLP:
        return nf.models.MLP(
            64, 10, width, 2, activation, parameterization, key=key, dtype=jnp.float64
        )

    return make


def _scaled(
    make: Callable[[Array], Any], alpha: float
) -> Callable[[Array], nf.models.Scaled]:
    return lambda key: nf.models.Scaled(make(key), alpha)


def _deep_linear(key: Array) -> nf.models.DeepLinear:
    return nf.models.DeepLinear(
        64, 10, 32, 3, "ntk", w_std=0.3, key=key, dtype=jnp.float64
    )


def _cnn(key: Array) -> nf.models.CNN:
    return nf.models.CNN((1, 8, 8), 10, 8, 2, key=key, dtype=jnp.float64)


_KINKS = 1e-4
"""For ReLU networks, whose flow costs its kinks: at 1e-5 Dopri8 takes 9,500 steps to
λ_max·t = 45 in `relu-64`. Their λ_max·T is smaller for that reason."""

CASES = {
    "tanh-64": Case(_mlp(64, "tanh"), 100, 1e4),
    "tanh-64-long": Case(_mlp(64, "tanh"), 100, 1e6),
    "tanh-64-n200": Case(_mlp(64, "tanh"), 200, 4e4),
    "tanh-64-n1000": Case(_mlp(64, "tanh"), 1000, 1e4),
    "relu-64": Case(_mlp(64, "relu"), 100, 1e3, tight=_KINKS),
    "relu-64-rich": Case(_scaled(_mlp(64, "relu"), 0.1), 100, 1e3, tight=_KINKS),
    "tanh-512-lazy": Case(_scaled(_mlp(512, "tanh"), 10.0), 100, 1e5),
    "tanh-512-rich": Case(_mlp(512, "tanh", "mean_field"), 50, 1e3),
    "relu-512": Case(_mlp(512, "relu"), 50, 1e3, tight=_KINKS),
    "deep-linear": Case(_deep_linear, 100, 10.0, plateaus=True),
    "cross-entropy": Case(_mlp(64, "tanh"), 200, 1e4, loss=nf.CrossEntropy()),
    "cnn": Case(_cnn, 50, 1e3, images=True, tight=_KINKS),
}

BASELINES = ("Tsit5", "Dopri5", "Dopri8")
"""The explicit Runge–Kutta methods that a user would take otherwise."""

SOLVERS: dict[str, Callable[[], Any]] = {
    "Tsit5": dfx.Tsit5,
    "Dopri5": dfx.Dopri5,
    "Dopri8": dfx.Dopri8,
    "Chebyshev": nf.solvers.Chebyshev,
    "Rock4": nf.solvers.Rock4,
    "KernelImplicit": nf.solvers.KernelImplicit,
    "KernelExponential": nf.solvers.KernelExponential,
    "auto": lambda: "auto",
}
