"""What pydantic finds wrong with a description, in plain words."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ._description import Experiment

_INTERNAL = ("function-", "literal[", "tuple[")
"""What pydantic puts into the path of a fault besides keys."""

_TABLE_FAULTS = frozenset({"model_type", "model_attributes_type", "dict_type"})


def explain(error: ValidationError) -> Iterator[str]:
    """Every fault in words, once.

    Args:
        error: Of validating an `Experiment`.

    Yields:
        The key, what was expected, what it got, the nearest name.
    """
    for fault in error.errors():
        if not _of_another_branch(fault):
            yield _explain(fault)


def _of_another_branch(fault: Any) -> bool:
    """Whether a name or a list was held against the other of "a name or a list"."""
    last, got = str(fault["loc"][-1] if fault["loc"] else ""), fault.get("input")
    if last.startswith("literal["):
        return isinstance(got, list | tuple)
    return last.startswith("tuple[") and not isinstance(got, list | tuple)


def _explain(fault: Any) -> str:
    """One fault in words."""
    path, table, options = _locate(fault["loc"])
    where = ".".join(path) or "the description"
    kind, got = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        names = list(table.model_fields)
        return f"{where}: unknown key.{_nearest(path[-1], names)} Keys: {_list(names)}."
    if kind in _TABLE_FAULTS:
        entry = f'name = "{options[0]}"' if options else _entry(table)
        return (
            f"{where}: expected a table, [{where}] with entries such as {entry} below "
            f"it; got {got!r}."
        )
    if kind == "tuple_type":
        return f'{where}: expected a list, such as [1, 2] or ["a", "b"]; got {got!r}.'
    if kind == "missing":
        return f"{where}: this entry is missing, and it has no default."
    if kind == "union_tag_not_found":
        return f"{where}.name: this entry is missing. Expected {_list(options)}."
    if kind == "union_tag_invalid":
        return f"{where}.name: {_of_names(str(fault['ctx']['tag']), options)}"
    if kind == "literal_error" and isinstance(got, str):
        return f"{where}: {_of_names(got, _options(fault['ctx']['expected']))}"
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(got, Mapping | BaseModel) else f", got {got!r}"
    if message.endswith("."):  # an error of ours, which says what it got
        return f"{where}: {message}"
    return f"{where}: {message}{shown}."


def _of_names(got: str, options: Sequence[str]) -> str:
    return f"got {got!r}.{_nearest(got, options)} Expected {_list(options)}."


def _options(expected: str) -> list[str]:
    return [o.strip("'") for o in expected.replace(" or ", ", ").split(", ")]


def _locate(
    location: Sequence[int | str],
) -> tuple[list[str], type[BaseModel], list[str]]:
    """Where a fault is.

    Returns:
        The keys that lead to it, as a file has them; the table they lead into; and the
        names by which tables are told apart, if there are several and it is not known
        which was meant.
    """
    path: list[str] = []
    table: type[BaseModel] = Experiment
    parts = [str(part) for part in location if not str(part).startswith(_INTERNAL)]
    options: dict[str, type[BaseModel]] = {}
    for part in parts:
        if part in options:  # told by pydantic, and by no key of the file
            table, options = options[part], {}
            continue
        path.append(part)
        field = table.model_fields.get(part)
        options = {} if field is None else _tables(field)
        if len(options) == 1:
            table, options = next(iter(options.values())), {}
    return path, table, list(options)


def _tables(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The tables that an entry may be, by their names where there are several."""
    kinds = [
        kind
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    if len(kinds) == 1:
        return {"": kinds[0]}
    return {
        name: kind
        for kind in kinds
        for name in get_args(kind.model_fields["name"].annotation)
    }


def _entry(table: type[BaseModel]) -> str:
    """One entry of a table, as an example; the first that has a default."""
    for name, field in table.model_fields.items():
        if isinstance(field.default, str):
            return f'{name} = "{field.default}"'
        if isinstance(field.default, int | float):
            return f"{name} = {field.default}"
    return "name = ..."


def _nearest(name: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, options, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(options: Sequence[str]) -> str:
    return ", ".join(options)
