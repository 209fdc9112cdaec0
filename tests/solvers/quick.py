"""Compilation for tests of solvers: their claims hold to tolerances, not to bits."""

import functools

import equinox as eqx

from tests.compilation import QUICK

quick_jit = functools.partial(eqx.filter_jit, compiler_options=QUICK)
