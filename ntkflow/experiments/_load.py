"""Reading descriptions: TOML in, one clear error out if it is wrong."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ._description import Experiment


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
        meant = [fault for fault in error.errors() if not _of_another_branch(fault)]
        faults = "\n".join(f"  {_explain(fault)}" for fault in meant)
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
        ValueError: If a setting is not of that form.
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
        target = changed
        for key in keys[:-1]:
            target = target.setdefault(key, {})
        target[keys[-1]] = value
    return changed


_INTERNAL = ("function-", "literal[", "tuple[")
"""What pydantic puts into the path of a fault besides keys."""


def _of_another_branch(fault: Any) -> bool:
    """Whether a name or a list was held against the other of "a name or a list"."""
    last, got = str(fault["loc"][-1] if fault["loc"] else ""), fault.get("input")
    if last.startswith("literal["):
        return isinstance(got, list | tuple)
    return last.startswith("tuple[") and not isinstance(got, list | tuple)


def _explain(fault: Any) -> str:
    """One fault in words."""
    path = [str(key) for key in fault["loc"] if not str(key).startswith(_INTERNAL)]
    where = ".".join(path) or "the description"
    if fault["type"] == "extra_forbidden":
        names = _keys_at(path[:-1])
        return f"{where}: unknown key.{_nearest(path[-1], names)} Keys: {_list(names)}."
    got = fault.get("input")
    if fault["type"] == "literal_error" and isinstance(got, str):
        options = [o.strip("'") for o in _options(fault["ctx"]["expected"])]
        return (
            f"{where}: got {got!r}.{_nearest(got, options)} Expected {_list(options)}."
        )
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(got, Mapping | BaseModel) else f", got {got!r}"
    if message.endswith("."):  # an error of ours, which says what it got
        return f"{where}: {message}"
    return f"{where}: {message}{shown}."


def _options(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _keys_at(path: Sequence[str]) -> list[str]:
    """The valid keys of the table at a path."""
    table: type[BaseModel] = Experiment
    for key in path:
        field = table.model_fields.get(key)
        inner = None if field is None else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            table = inner
    return list(table.model_fields)


def _nearest(name: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, options, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(options: Sequence[str]) -> str:
    return ", ".join(options)
