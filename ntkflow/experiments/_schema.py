"""The JSON schema of a description, which editors complete and check TOML by."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from ._description import Experiment


def schema() -> dict[str, Any]:
    """The JSON schema of the TOML file of an experiment.

    Every key has its type, its default, its bounds and its meaning. What goes with
    what, such as a path with the data of a file, only `parse_experiment` checks.

    Returns:
        The schema, as JSON holds it.

    Verified by: tests/experiments/test_schema.py::test_every_key_has_its_meaning
    """
    described = Experiment.model_json_schema()
    return {"$schema": GenerateJsonSchema.schema_dialect, **described}
