"""Reading descriptions: TOML in, one clear error out if it is wrong."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ._description import Experiment
from ._faults import explain


def load_experiment(path: str | Path) -> Experiment:
    """Reads an experiment from a TOML file.

    Args:
        path: The file.

    Returns:
        The description.

    Raises:
        ValueError: If the file cannot be read, is no TOML, or says something unknown.
    """  # ruff: ignore[docstring-extraneous-exception]
    return parse_experiment(read_toml(path), str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: The file.

    Returns:
        Its tables.

    Raises:
        ValueError: If the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not valid TOML: {error}. Tables are written [model], entries "
            'width = 128 or activation = "tanh".'
        ) from error


def parse_experiment(tables: Mapping[str, Any], source: str) -> Experiment:
    """Checks tables against the description of an experiment.

    Args:
        tables: What a TOML file holds.
        source: What to call it in errors.

    Returns:
        The description.

    Raises:
        ValueError: With every fault: its key, what was expected, the nearest name.
    """
    try:
        return Experiment.model_validate(tables)
    except ValidationError as error:
        faults = "\n".join(f"  {fault}" for fault in explain(error))
        raise ValueError(
            f"{source} does not describe an experiment:\n{faults}"
        ) from None


def override(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Sets single entries, as `--set model.width=256` does.

    Args:
        tables: What a TOML file holds.
        settings: Each `table.key=value`, the value as in TOML; a bare word is a string.

    Returns:
        New tables.

    Raises:
        ValueError: If a setting is not of that form, or sets an entry of what is no
            table.
    """
    changed = {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in tables.items()
    }
    for setting in settings:
        name, equals, text = setting.partition("=")
        keys = name.strip().split(".")
        if not equals or not all(keys) or len(keys) > 2:
            raise ValueError(
                f"--set {setting!r} is not of the form table.key=value, for instance "
                "--set model.width=256."
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        target = changed if len(keys) == 1 else changed.setdefault(keys[0], {})
        if not isinstance(target, dict):
            raise ValueError(
                f"--set {setting!r} sets an entry of {keys[0]}, which is no table but "
                f"{target!r}. Set it as a whole: --set {keys[0]}=..."
            )
        target[keys[-1]] = value
    return changed
