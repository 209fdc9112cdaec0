"""Modules of which the limit is not read, and why."""

from typing import Any

import equinox as eqx

from ntkflow import models
from ntkflow.infinite._reading import refusal

BY_HAND = "Build the layers by hand as a ntkflow.infinite.Sequential"
FINITE = "Compute the finite kernel with ntkflow.ntk"

MAXIMUM = (
    "a maximum of Gaussian units over positions has no closed form",
    "Take an average, such as equinox.nn.AvgPool2d",
)
RECURRENT = (
    "its weights are used again at every step, and steps are not independent",
    FINITE,
)
DEPTH = (
    "it is continuous in depth",
    "Its limits are solved by the kernel equations along depth of ntkflow.infinite",
)
STATISTICS = ("it divides by statistics of a batch or of groups of units", BY_HAND)
NORMALIZED = ("its weights are divided by a norm of their own", FINITE)

REASONS: dict[type, tuple[str, str]] = {
    eqx.nn.AdaptiveMaxPool1d: MAXIMUM,
    eqx.nn.AdaptiveMaxPool2d: MAXIMUM,
    eqx.nn.AdaptiveMaxPool3d: MAXIMUM,
    eqx.nn.MaxPool1d: MAXIMUM,
    eqx.nn.MaxPool2d: MAXIMUM,
    eqx.nn.MaxPool3d: MAXIMUM,
    eqx.nn.GRUCell: RECURRENT,
    eqx.nn.LSTMCell: RECURRENT,
    eqx.nn.BatchNorm: STATISTICS,
    eqx.nn.GroupNorm: STATISTICS,
    eqx.nn.RMSNorm: STATISTICS,
    eqx.nn.SpectralNorm: NORMALIZED,
    eqx.nn.WeightNorm: NORMALIZED,
    eqx.nn.MultiheadAttention: (
        "its scores stay random at infinite width and go through a softmax, which has "
        "no closed form",
        "Build a limit that has one by hand, with ntkflow.infinite.Attention",
    ),
    eqx.nn.Embedding: (
        "it is called on integers, not on units",
        "Build it by hand as ntkflow.infinite.Embedding, on inputs of one_hot",
    ),
    eqx.nn.PReLU: (
        "its slope is trained with the network",
        "Take a fixed one, such as jax.nn.leaky_relu",
    ),
    eqx.nn.Shared: (
        "it uses weights in more than one place, where the limit of independent "
        "layers does not hold",
        FINITE,
    ),
    models.CNF: DEPTH,
    models.LatentODE: DEPTH,
    models.NeuralODE: DEPTH,
    models.DiagonalLinear: (
        "its parameters start at one value, not at random, and it has no width",
        FINITE,
    ),
}
"""By type, why it is not read and what to do instead."""


def refuse(module: Any, path: str) -> None:
    """Refuse a module that is known not to be read, and modules not known at all.

    Args:
        module: Of any type that has no reader.
        path: Where it is.

    Raises:
        ValueError: It is one of those, or nothing that is called.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if type(module) in REASONS:
        raise refusal(path, module, *REASONS[type(module)])
    if isinstance(module, eqx.Module):
        raise refusal(
            path,
            module,
            "what it computes is not known, as it is no layer of equinox.nn or "
            "ntkflow.models (a subclass may compute anything)",
            BY_HAND,
        )
    if not callable(module):
        raise refusal(path, module, "it is not called on an example", BY_HAND)
