"""What the tests of simulations share."""

import equinox as eqx
import pytest

from ntkflow.simulate import _integrate, _reading

from ..compilation import FUSED, QUICK

COMPILED = (
    (_integrate, "_start", _integrate._start),
    (_integrate, "_take_over", _integrate._take_over),
    (_integrate, "_advance", _integrate._advance),
    (_integrate, "_advance_many", _integrate._advance_many),
    (_reading, "_read", _reading._read),
)
QUICKLY_COMPILED = [
    (module, name, eqx.filter_jit(function.__wrapped__, compiler_options=QUICK))
    for module, name, function in COMPILED
]
FULLY_COMPILED = [
    (module, name, eqx.filter_jit(function.__wrapped__, compiler_options=FUSED))
    for module, name, function in COMPILED
]


@pytest.fixture
def quickly_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles what takes longest in a fraction of the time.

    For claims to the tolerance of a solver; those of bits are compiled as users do.
    """
    for module, name, function in QUICKLY_COMPILED:
        monkeypatch.setattr(module, name, function)


@pytest.fixture
def fully_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles as users do, for claims of bits between programs of other shapes."""
    for module, name, function in FULLY_COMPILED:
        monkeypatch.setattr(module, name, function)
