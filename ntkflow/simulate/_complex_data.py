"""Integrating a real state beside data that are complex."""

import warnings
from typing import Any

import diffrax as dfx


def diffeqsolve(*args: Any, **kwargs: Any) -> dfx.Solution:
    """`diffrax.diffeqsolve`, without its warning of complex numbers.

    diffrax warns where any array it is handed is complex. Inputs of a problem and
    frozen arrays of a model may be; the state it integrates is real.

    Args:
        *args: As for diffrax.
        **kwargs: As for diffrax.

    Returns:
        The solution.

    Verified by: tests/simulate/test_targets.py::test_complex_inputs_are_trained_on
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Complex dtype support in Diffrax")
        return dfx.diffeqsolve(*args, **kwargs)
