"""The built-in experiments: TOML files that come with the package."""

import tomllib
from importlib import resources
from typing import Any

from .._errors import unknown_name


def _files() -> dict[str, Any]:
    folder = resources.files("ntkflow.experiments") / "builtin"
    found = {
        entry.name.removesuffix(".toml"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
    return dict(sorted(found.items()))


def builtin_names() -> list[str]:
    """The names of the built-in experiments.

    Returns:
        Names, sorted.
    """
    return list(_files())


def load_builtin(name: str) -> dict[str, Any]:
    """The tables of a built-in experiment.

    Args:
        name: Its name.

    Returns:
        What its TOML file holds.

    Raises:
        ValueError: If there is none of that name.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    files = _files()
    if name not in files:
        raise unknown_name("experiment", name, files)
    return tomllib.loads(files[name].read_text(encoding="utf-8"))
