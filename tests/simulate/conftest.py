"""What the tests of simulations share."""

import equinox as eqx
import pytest

from ntkflow.simulate import _integrate, _reading

from ..compilation import QUICK

QUICKLY_COMPILED = [
    (module, name, eqx.filter_jit(function.__wrapped__, compiler_options=QUICK))
    for module, name, function in (
        (_integrate, "_start", _integrate._start),
        (_integrate, "_take_over", _integrate._take_over),
        (_integrate, "_advance", _integrate._advance),
        (_integrate, "_advance_many", _integrate._advance_many),
        (_reading, "_read", _reading._read),
    )
]


@pytest.fixture
def quickly_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles what takes longest in a fraction of the time.

    For claims to the tolerance of a solver; those of bits are compiled as users do.
    """
    for module, name, function in QUICKLY_COMPILED:
        monkeypatch.setattr(module, name, function)
