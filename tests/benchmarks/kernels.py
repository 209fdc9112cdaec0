"""Empirical kernels against the machine, a plain contraction, and peers: one table.

    python -m tests.benchmarks.kernels [--peers DIR] [CASE ...]

With `--peers` an environment for every peer is made in DIR, if it is not there yet, and
the peers are timed too. Every figure comes from a process of its own. "x floor" is the
wall time over the time the planned operations would take at the speed of a large matrix
product, measured in the same process.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from .cases import CASES

PEERS = {
    "neural_tangents": [
        "neural-tangents",
        "jax==0.4.25",
        "jaxlib==0.4.25",
        "numpy==1.26.4",
        "scipy==1.12.0",
        "tensorflow==2.21.0",
        "tf2jax==0.3.6",
    ],
    "torch_func": ["torch==2.13.0", "numpy"],
}
SETTINGS = {
    # Its own default leaves the examples in one batch that it cannot tell apart.
    "neural_tangents": {"neural_tangents": [], "n.-tangents, vmap": ["vmap_axes=0"]},
    "torch_func": {"torch_func": []},
}
HERE = Path(__file__).parent
COLUMNS = ("cpu s", "wall s", "x floor", "compile s", "memory MB")


def environment(peer: str, folder: Path) -> Path:
    """The Python of a peer's environment, which is built if it is not there.

    Args:
        peer: Name of the peer.
        folder: Where environments are.

    Returns:
        The interpreter.
    """
    python = folder / peer / "bin" / "python"
    if not (folder / peer / "built").exists():
        venv.create(folder / peer, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "-q", *PEERS[peer]]
        subprocess.run(command, check=True)
        (folder / peer / "built").touch()
    return python


def ask(command: list[Any]) -> dict[str, Any]:
    """Runs a measuring process.

    Args:
        command: Its command line.

    Returns:
        What it measured.
    """
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def row(case: str, what: str, found: dict[str, Any]) -> str:
    """One line of the table.

    Args:
        case: Name of the case.
        what: Who computed it.
        found: What was measured.

    Returns:
        The line.
    """
    floor = ""
    if "flops" in found and what != "plain":
        floor = f"{found['wall'] * found['peak_wall'] / found['flops']:.2f}"
    cells = (
        f"{found['cpu']:.4f}",
        f"{found['wall']:.4f}",
        floor,
        f"{found['compile']:.1f}",
        f"{found['memory'] / 1e6:.0f}",
    )
    return f"{case:<18}{what:<18}" + "".join(f"{cell:>11}" for cell in cells)


def main() -> None:
    """Times every case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--peers", type=Path)
    given = parser.parse_args()
    print(f"{'':<36}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name in given.cases or CASES:
        for method in ("auto", "plain"):
            command = [sys.executable, "-m", "tests.benchmarks.ours", name, method]
            what = "ntkflow" if method == "auto" else method
            print(row(name, what, ask(command)), flush=True)
        for peer in CASES[name].peers if given.peers else ():
            python = environment(peer, given.peers)
            for what, setting in SETTINGS[peer].items():
                script = HERE / "peers" / f"by_{peer}.py"
                found = ask([python, script, name, *setting])
                print(row(name, what, found), flush=True)


if __name__ == "__main__":
    main()
