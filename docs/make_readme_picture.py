"""Runs exactly the example of README.md and keeps its picture: `python docs/<this>`."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = "overview.png"


def main() -> None:
    """Runs the one Python block of the README where its picture belongs."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    folder = ROOT / "docs" / "_static"
    folder.mkdir(exist_ok=True)
    (folder / PICTURE).unlink(missing_ok=True)
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    subprocess.run(
        [sys.executable, "-c", example], cwd=folder, env=environment, check=True
    )
    if not (folder / PICTURE).is_file():
        raise FileNotFoundError(f"The example of README.md no longer makes {PICTURE}.")


if __name__ == "__main__":
    main()
