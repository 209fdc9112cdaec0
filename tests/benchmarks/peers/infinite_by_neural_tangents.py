"""Kernels of infinite width by neural-tangents, in its own environment.

PYTHONPATH=tests/benchmarks python infinite_by_neural_tangents.py CASE
"""

import sys

import jax
from measure import measure, report
from neural_tangents import stax

W = 2**0.5


def _mlp():
    layers = [part for _ in range(3) for part in (stax.Dense(1, W, 0.1), stax.Relu())]
    return *layers, stax.Dense(1, W, 0.1)


def _cnn(pool, depth):
    layers = [
        part
        for _ in range(depth)
        for part in (
            stax.Conv(1, (3, 3), padding="SAME", W_std=W, b_std=0.1),
            stax.Relu(),
        )
    ]
    return *layers, pool, stax.Dense(1, W, 0.1)


CASES = {
    "mlp-2000": (_mlp, (2000, 784)),
    "cnn-flatten-64": (lambda: _cnn(stax.Flatten(), 4), (64, 32, 32, 3)),
    "cnn-pool-8": (lambda: _cnn(stax.GlobalAvgPool(), 2), (8, 16, 16, 3)),
}


def main(name: str) -> None:
    """Times one case."""
    make, shape = CASES[name]
    kernel = stax.serial(*make())[2]
    x = jax.random.normal(jax.random.PRNGKey(1), shape)

    def build():
        def both(x):
            return tuple(kernel(x, None, ("nngp", "ntk")))

        compiled = jax.jit(both).lower(x).compile()
        return lambda: jax.block_until_ready(compiled(x))

    report(measure(build))


if __name__ == "__main__":
    main(*sys.argv[1:])
