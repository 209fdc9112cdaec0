"""What a checkpoint belongs to: everything that determines the numbers, and no more."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from ntkflow.flows import Gradient, Momentum, Residual
from ntkflow.measures import KernelDrift, Spectrum
from ntkflow.problem import Problem
from ntkflow.simulate import LossBelow, _simulate, simulate
from ntkflow.solvers import Chebyshev, KernelImplicit

X = jax.random.normal(jax.random.key(1), (4, 3))
Y = jax.random.normal(jax.random.key(2), (4, 1))


class Net(eqx.Module):
    """One hidden layer; `doubled` stands for any static field."""

    w: jax.Array
    v: jax.Array
    act: object = eqx.field(static=True)
    doubled: bool = eqx.field(static=True, default=False)

    def __call__(self, x):
        return (1 + self.doubled) * self.v @ self.act(self.w @ x)


def net(act=jnp.tanh, *, kind=Net, dtype=jnp.float64, **options):
    w = jax.random.normal(jax.random.key(3), (5, 3), dtype)
    v = jax.random.normal(jax.random.key(4), (1, 5), dtype)
    return kind(w, v, act, **options)


def edited():
    class Net(eqx.Module):
        w: jax.Array
        v: jax.Array
        act: object = eqx.field(static=True)

        def __call__(self, x):
            return self.v @ self.act(self.w @ x) + 1.0

    Net.__qualname__ = "Net"
    return Net


def scaled(factor):
    return lambda h: factor * jnp.tanh(h)


def given(model=None, x=X, y=Y, **options):
    return Problem(net() if model is None else model, x, y, **options)


def digest(monkeypatch, problem, **options):
    """The digest of a request, which is not carried out."""
    found = []

    class KeptError(Exception):
        pass

    def keep(request, *_, **__):
        found.append(request.digest)
        raise KeptError

    monkeypatch.setattr(_simulate, "Run", keep)
    settings = {"flows": [Gradient()], "measures": (), "progress": False} | options
    with pytest.raises(KeptError):
        simulate(problem, settings.pop("ts", [0.1, 0.2]), **settings)
    return found[0]


PROBLEMS = {
    "activation": lambda: given(net(lambda h: jnp.sin(3 * h))),
    "constant closed over": lambda: given(net(scaled(2.0))),
    "array closed over": lambda: given(net(scaled(jnp.arange(5.0)))),
    "edited method": lambda: given(net(kind=edited())),
    "static field": lambda: given(net(doubled=True)),
    "weight": lambda: given(eqx.tree_at(lambda m: m.v, net(), net().v + 1e-12)),
    "loss": lambda: given(loss=lambda f, y: 5 * jnp.sum((f - y) ** 2)),
    "decay": lambda: given(decay=0.1),
    "filter": lambda: given(trainable=Net(True, False, jnp.tanh)),
    "reduction": lambda: given(reduction="mean"),
    "inputs": lambda: given(x=X + 1e-12),
    "targets": lambda: given(y=Y + 1e-12),
    "test inputs": lambda: given(x_test=X, y_test=Y),
    "dtype": lambda: given(net(dtype=jnp.float32), x=X.astype(jnp.float32)),
}

OPTIONS = {
    "flow": {"flows": [Momentum(1.0)]},
    "flow's option": {"flows": [Momentum(1.1)]},
    "one more flow": {"flows": [Gradient(), Residual("evolving")]},
    "solver": {"solver": Chebyshev()},
    "solver's option": {"solver": Chebyshev(max_stages=7)},
    "another solver": {"solver": KernelImplicit()},
    "rtol": {"rtol": 1e-5},
    "atol": {"atol": 1e-7},
    "measure": {"measures": [KernelDrift()]},
    "measure's option": {"measures": [Spectrum(2)]},
    "another option": {"measures": [Spectrum(3)]},
    "event": {"events": [LossBelow(0.1)]},
    "event's option": {"events": [LossBelow(0.2)]},
    "errors": {"global_error": False},
}


def test_whatever_determines_numbers_changes_the_digest(monkeypatch):
    found = {"": digest(monkeypatch, given())}
    for name, make in PROBLEMS.items():
        found[name] = digest(monkeypatch, make())
    for name, options in OPTIONS.items():
        found[name] = digest(monkeypatch, given(), **options)
    assert len(set(found.values())) == len(found)


def test_equal_requests_have_equal_digests(monkeypatch):
    for make in (given, PROBLEMS["constant closed over"], PROBLEMS["loss"]):
        assert digest(monkeypatch, make()) == digest(monkeypatch, make())
    # What says how far to go, and how often to write, changes no number. Save times
    # are compared by themselves, since later ones may be added.
    more = {"segment_steps": 7, "max_steps": 11, "ts": [0.1, 0.3]}
    assert digest(monkeypatch, given(), **more) == digest(monkeypatch, given())


def test_another_program_is_not_resumed(tmp_path):
    """It would be a trajectory of neither."""
    settings = {"flows": [Gradient()], "measures": (), "progress": False}
    simulate(given(net(lambda h: jnp.tanh(h))), [0.1], checkpoint=tmp_path, **settings)
    with pytest.raises(ValueError, match="holds another run"):
        simulate(
            given(net(lambda h: jnp.sin(3 * h))),
            [0.1],
            checkpoint=tmp_path,
            resume=True,
            **settings,
        )
