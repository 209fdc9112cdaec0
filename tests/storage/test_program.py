"""Digests of programs: what is computed counts, names and places do not."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from ntkflow.storage import program

X = jnp.arange(3.0)


def ruled(factor):
    """A sine whose derivative is said to be `factor`."""

    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    @sine.defjvp
    def _(primals, tangents):
        return sine(*primals), factor * tangents[0]

    return sine


PAIRS = {
    "activation": (jnp.tanh, jnp.sin),
    "constant": (lambda x: 2 * x, lambda x: 3 * x),
    "captured": (
        (lambda a: lambda x: a * x)(jnp.ones(3)),
        (lambda a: lambda x: a * x)(jnp.asarray([1.0, 1.0, 2.0])),
    ),
    "captured key": (
        lambda x: x + jax.random.normal(jax.random.key(0), (3,)),
        lambda x: x + jax.random.normal(jax.random.key(1), (3,)),
    ),
    "order": (lambda x: x[0] - x[1], lambda x: x[1] - x[0]),
    "loop": (
        lambda x: jax.lax.scan(lambda s, _: (s * s, None), x, length=3)[0],
        lambda x: jax.lax.scan(lambda s, _: (s + s, None), x, length=3)[0],
    ),
    "branch": (
        lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
        lambda x: jax.lax.cond(x[0] > 0, jnp.cos, jnp.sin, x),
    ),
    "precision": (
        lambda x: jnp.dot(x, x, precision="highest"),
        lambda x: jnp.dot(x, x),
    ),
    "rule": (jax.vmap(jax.grad(ruled(2.0))), jax.vmap(jax.grad(ruled(3.0)))),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_programs_that_differ_in_one_thing_differ(pair):
    first, second = PAIRS[pair]
    assert program(first, X) != program(second, X)
    assert program(first, X) == program(first, X)


def test_shapes_and_dtypes_of_arguments_count_and_values_do_not():
    assert program(jnp.sin, X) == program(jnp.sin, X + 1)
    assert program(jnp.sin, X) != program(jnp.sin, X[:2])
    assert program(jnp.sin, X) != program(jnp.sin, X.astype(jnp.float32))


def test_names_and_places_do_not_count():
    def one(x):
        return jax.jit(lambda x: jnp.sin(x))(x)

    def other(y):
        def inner(y):
            return jnp.sin(y)

        return jax.jit(inner)(y)

    assert program(one, X) == program(other, X)


SCRIPT = """
import equinox as eqx, jax, jax.numpy as jnp
from ntkflow.storage import fingerprint, program
model = eqx.nn.MLP(3, 2, 4, 2, jax.nn.gelu, key=jax.random.key(0))
params, static = eqx.partition(model, eqx.is_inexact_array)
def loss(params, x):
    f = eqx.combine(params, static)(x)
    return jnp.sum(f[:1] ** 2) + jax.nn.relu(f[1])
computed = program(jax.grad(loss), params, jnp.ones(3))
class Own(eqx.Module):
    names: frozenset = frozenset({"a", "b", "c"})
    def __call__(self, x):
        return x
print(computed, fingerprint(model, Own(), loss, {"b": 1, "a": 2}))
"""


def test_every_process_finds_the_same(tmp_path):
    """Wherever the file is, and however its process hashes texts."""
    found = set()
    for seed, folder in (("1", tmp_path / "here"), ("2", tmp_path / "there")):
        folder.mkdir()
        path = folder / "model.py"
        path.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, str(path)],
            env={
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": ":".join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
