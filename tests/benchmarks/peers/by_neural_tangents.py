"""The kernels of neural-tangents (structured derivatives), in its own environment.

    PYTHONPATH=tests/benchmarks python by_neural_tangents.py CASE [vmap_axes=0]

`vmap_axes=0` promises that no layer couples examples, which none here does; without it
the library does not know. Its traced kernel is the mean over outputs, not the sum.
"""

import sys

import jax
import neural_tangents as nt
from measure import measure, report
from neural_tangents import stax

MLP = (
    *(part for _ in range(3) for part in (stax.Dense(512), stax.Relu())),
    stax.Dense(10),
)
CNN = (
    *(
        part
        for _ in range(3)
        for part in (stax.Conv(64, (3, 3), padding="SAME"), stax.Relu())
    ),
    stax.GlobalAvgPool(),
    stax.Dense(10),
)
CASES = {
    "mlp-64-trace": (MLP, (64, 784), (-1,)),
    "mlp-256-full": (MLP, (256, 784), ()),
    "cnn-16-full": (CNN, (16, 16, 16, 3), ()),
}


def main(name: str, *settings: str) -> None:
    """Times one case."""
    layers, shape, trace_axes = CASES[name]
    init, apply, _ = stax.serial(*layers)
    x = jax.random.normal(jax.random.PRNGKey(1), shape)
    _, params = init(jax.random.PRNGKey(0), shape)
    kernel = nt.empirical_ntk_fn(
        apply,
        trace_axes=trace_axes,
        vmap_axes=0 if "vmap_axes=0" in settings else None,
        implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    )

    def build():
        compiled = jax.jit(lambda p, x: kernel(x, None, p)).lower(params, x).compile()
        return lambda: jax.block_until_ready(compiled(params, x))

    report(measure(build))


if __name__ == "__main__":
    main(*sys.argv[1:])
