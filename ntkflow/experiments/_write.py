"""Writing a description back as TOML, complete with its defaults."""

import json
from typing import Any

from ._description import Experiment


def to_toml(experiment: Experiment) -> str:
    """The description as a TOML file that reads back to the same experiment.

    Args:
        experiment: The description.

    Returns:
        The file's text; entries that are left out by default stay out.
    """
    content = experiment.model_dump(mode="json", exclude_none=True)
    lines = [
        f"{key} = {_value(value)}"
        for key, value in content.items()
        if not isinstance(value, dict)
    ]
    for table, entries in content.items():
        if isinstance(entries, dict):
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {_value(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    # Numbers, booleans, strings and lists of these are written in TOML as in JSON.
    return json.dumps(value, ensure_ascii=False)
