"""Makes the reference values again, in an environment of neural-tangents' own.

    python -m tests.infinite.neural_tangents.build [--folder DIR] [--out FILE.npz]

The environment is made in DIR if it is not there yet, by default in a folder that is
deleted afterwards. neural-tangents 0.6.5 needs JAX 0.4.25, so it never shares one with
ntkflow, and the tests read its values from `reference.npz` beside this file.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.kernels import environment

HERE = Path(__file__).parent


def main() -> None:
    """Builds the environment and runs `reference.py` in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "reference.npz")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        python = environment("neural_tangents", given.folder or Path(temporary))
        subprocess.run(
            [python, HERE / "reference.py", given.out],
            check=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )


if __name__ == "__main__":
    main()
