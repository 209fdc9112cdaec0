"""Digests of settings and objects of one's own."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.storage import fingerprint


class Scaled(eqx.Module):
    by: float
    kept: tuple = eqx.field(static=True, default=())

    def read(self, x):
        return self.by * x


def edited():
    class Scaled(eqx.Module):
        by: float
        kept: tuple = eqx.field(static=True, default=())

        def read(self, x):
            return self.by * x + 1

    Scaled.__qualname__ = "Scaled"
    return Scaled


def closing_over(value):
    return lambda x: x + value


def power(x, p):
    return x**p


PAIRS = {
    "number": (1.0, 1.0 + 1e-16 + 2e-16),
    "kind of number": (1, 1.0),
    "truth": (True, 1),
    "text": ("a", "b"),
    "nesting": ((1, (2, 3)), ((1, 2), 3)),
    "splitting": (("ab", "c"), ("a", "bc")),
    "key": ({"a": 1}, {"b": 1}),
    "array": (np.zeros(3), np.asarray([0.0, 0.0, 1e-300])),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "dtype": (np.zeros(4, np.int32), np.zeros(4, np.uint32)),
    "random key": (jax.random.key(0), jax.random.key(1)),
    "field": (Scaled(1.0), Scaled(2.0)),
    "static field": (Scaled(1.0), Scaled(1.0, ("a",))),
    "method": (Scaled(1.0), edited()(1.0)),
    "lambda": (lambda x: jnp.tanh(x), lambda x: jnp.sin(x)),
    "constant": (lambda x: 2 * x, lambda x: 3 * x),
    "captured": (closing_over(1.0), closing_over(2.0)),
    "captured array": (closing_over(jnp.zeros(2)), closing_over(jnp.ones(2))),
    "captured function": (closing_over(lambda x: x), closing_over(lambda x: -x)),
    "default": (lambda x, a=1: x + a, lambda x, a=2: x + a),
    "bound": (functools.partial(power, p=2), functools.partial(power, p=3)),
    "library's": (jnp.sin, jnp.cos),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_things_that_differ_in_one_number_differ(pair):
    first, second = PAIRS[pair]
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint({"a": [first]}) != fingerprint({"a": [second]})


def test_a_function_that_captures_itself_ends():
    def again(n):
        return again(n - 1) if n else 0

    box = []
    box.append(lambda: box)
    assert fingerprint(again) == fingerprint(again)
    assert fingerprint(box) == fingerprint(box)


def test_order_of_keys_and_of_definition_does_not_count():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(closing_over(3.0)) == fingerprint(closing_over(3.0))
