import json
from typing import Any

import pytest

from ntkflow.experiments import (
    Experiment,
    builtin_names,
    load_builtin,
    parse_experiment,
    schema,
)

from .documented_keys import BEGIN, END, PAGE, tables


def described() -> dict[str, dict[str, Any]]:
    """Every table of the schema by its name."""
    whole = schema()
    return {"Experiment": whole, **whole["$defs"]}


def test_every_key_has_its_meaning():
    for name, table in described().items():
        assert table["additionalProperties"] is False, name
        assert table["description"], name
        for key, entry in table["properties"].items():
            assert entry.get("description", "").endswith("."), f"{name}.{key}"


def test_the_schema_is_json_of_every_key():
    whole = json.loads(json.dumps(schema()))
    assert whole["$schema"].startswith("https://json-schema.org/")
    assert list(whole["properties"]) == list(Experiment.model_fields)
    names = whole["$defs"]["Model"]["properties"]["activation"]["enum"]
    for name in names:
        parse_experiment({"model": {"activation": name}}, "x")
    with pytest.raises(ValueError, match=", ".join(f"'{name}'" for name in names)):
        parse_experiment({"model": {"activation": "none"}}, "x")


def test_defaults_of_the_schema_are_those_of_a_description():
    whole = schema()
    empty = Experiment().model_dump(mode="json")
    for table in ("data", "model", "training", "simulation"):
        entries = whole["$defs"][table.capitalize()]["properties"]
        given = {key: entry.get("default") for key, entry in entries.items()}
        assert given == empty[table]


def test_keys_of_the_builtin_experiments_are_in_the_schema():
    found = described()
    for name in builtin_names():
        for key, value in load_builtin(name).items():
            if isinstance(value, dict):
                assert value.keys() <= found[key.capitalize()]["properties"].keys()


def test_the_page_documents_every_key():
    page = PAGE.read_text("utf-8")
    shown = page.split(BEGIN)[1].split(END)[0].strip()
    assert shown == tables().strip(), (
        "write the table anew: python -m tests.experiments.documented_keys"
    )
