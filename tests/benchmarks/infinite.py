"""Kernels of infinitely wide networks against neural-tangents: one table.

    python -m tests.benchmarks.infinite [--peers DIR] [CASE ...]

With `--peers` an environment of neural-tangents' own is made in DIR, if it is not there
yet, and it is timed too. Every figure comes from a process of its own, one after the
other, in float32; times are the least of several runs after the first, which compiles.
"""

import argparse
import sys
from pathlib import Path

import jax

import ntkflow as nf

from .kernels import HERE, ask, environment
from .measure import measure, report

I = nf.infinite
COLUMNS = ("cpu s", "wall s", "compile s", "memory MB")
W, B = 2**0.5, 0.1


def mlp() -> nf.infinite.Sequential:
    """Three hidden layers."""
    return I.Sequential([*[I.Dense(W, B), I.Relu()] * 3, I.Dense(W, B)])


def cnn(end: nf.infinite.AbstractLayer, depth: int) -> nf.infinite.Sequential:
    """Convolutions of 3×3, zero-padded."""
    layers = [I.Conv(3, w_std=W, b_std=B), I.Relu()] * depth
    return I.Sequential([*layers, end, I.Dense(W, B)])


CASES = {
    "mlp-2000": (mlp, (2000, 784)),
    "cnn-flatten-64": (lambda: cnn(I.Flatten(), 4), (64, 3, 32, 32)),
    "cnn-pool-8": (lambda: cnn(I.GlobalAvgPool(), 2), (8, 3, 16, 16)),
}
"""Makers of networks, and shapes of examples; the peer has the same, channels last."""


def measure_case(name: str) -> None:
    """Times one case in this process.

    Args:
        name: Its name.
    """
    make, shape = CASES[name]
    network, x = make(), jax.random.normal(jax.random.key(1), shape)
    report(measure(lambda: lambda: jax.block_until_ready(network(x))))


def main() -> None:
    """Times every case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--one", choices=CASES)
    given = parser.parse_args()
    if given.one:
        measure_case(given.one)
        return
    print(f"{'':<34}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name in given.cases or CASES:
        timed = {"ntkflow": [sys.executable, "-m", __spec__.name, "--one", name]}
        if given.peers:
            python = environment("neural_tangents", given.peers)
            script = HERE / "peers" / "infinite_by_neural_tangents.py"
            timed["neural_tangents"] = [python, script, name]
        for who, command in timed.items():
            found = ask(command)
            cells = (
                f"{found['cpu']:.4f}",
                f"{found['wall']:.4f}",
                f"{found['compile']:.1f}",
                f"{found['memory'] / 1e6:.0f}",
            )
            line = "".join(f"{cell:>11}" for cell in cells)
            print(f"{name:<18}{who:<16}" + line, flush=True)


if __name__ == "__main__":
    main()
