"""Depth in a few Euler steps, which a loop repeats, compiled cheaply."""

import diffrax
import equinox as eqx
import jax
import numpy as np

from ntkflow import models

from ..compilation import QUICK

STEPS = 4
T = 2.0


def depth(**settings):
    return models.Depth(
        T,
        solver=diffrax.Euler(),
        controller=diffrax.ConstantStepSize(),
        dt0=T / STEPS,
        **settings,
    )


def loop(field, z):
    """The same steps, one after the other."""
    h, states = T / STEPS, []
    for i in range(STEPS):
        z = z + h * np.asarray(field(jax.numpy.asarray(i * h), jax.numpy.asarray(z)))
        states.append(z)
    return np.stack(states)


def run(function, *arguments):
    """A function of modules and arrays, compiled cheaply."""
    params, static = eqx.partition((function, arguments), eqx.is_array)

    def call(params):
        function, arguments = eqx.combine(params, static)
        return function(*arguments)

    return jax.jit(call, compiler_options=QUICK)(params)
