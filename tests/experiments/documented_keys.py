"""The table of all keys in docs/experiment-files.md, from the JSON schema.

`python -m tests.experiments.documented_keys`, in a copy of the repository, writes it
anew.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ntkflow.experiments import schema

PAGE = Path(__file__).parents[2] / "docs" / "experiment-files.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}


def tables() -> str:
    """The tables of the page, as Markdown."""
    whole = schema()
    plain = {
        key: entry
        for key, entry in whole["properties"].items()
        if not _references(entry)
    }
    parts = [_table("Above all tables", "", {"properties": plain}, whole)]
    for key, entry in whole["properties"].items():
        for reference in _references(entry):
            described = _resolve(reference, whole)
            parts.append(
                _table(f"`[{key}]`", described["description"], described, whole)
            )
    return "\n".join(parts)


def _references(entry: dict[str, Any]) -> list[str]:
    """The tables that an entry may be."""
    options = [entry, *entry.get("oneOf", []), *entry.get("anyOf", [])]
    return [option["$ref"] for option in options if "$ref" in option]


def _resolve(reference: str, whole: dict[str, Any]) -> dict[str, Any]:
    return whole["$defs"][reference.removeprefix("#/$defs/")]


def _table(
    title: str, text: str, described: dict[str, Any], whole: dict[str, Any]
) -> str:
    lines = [f"### {title}" + (f": {text[0].lower()}{text[1:-1]}" if text else ""), ""]
    rows = [("key", "value", "default", "meaning"), ("---",) * 4]
    required = described.get("required", [])
    for key, entry in described["properties"].items():
        default = "needed" if key in required else _value(entry.get("default"))
        meaning = " ".join(entry["description"].split())
        rows.append((f"`{key}`", ", ".join(_kinds(entry)), default, meaning))
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _kinds(entry: dict[str, Any]) -> Iterator[str]:
    """What a key may be set to."""
    for option in entry.get("anyOf", [entry]):
        if "enum" in option or "const" in option:
            yield from map(_value, option.get("enum", [option.get("const")]))
        elif option["type"] == "array":
            yield f"a list of: {', '.join(_kinds(option['items']))}"
        elif option["type"] != "null":
            bounds = [f"{s} {option[b]}" for b, s in BOUNDS.items() if b in option]
            yield " ".join([option["type"], " and ".join(bounds)]).strip()


def _value(value: Any) -> str:
    match value:
        case None:
            return "left out"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`'
        case list():
            return f"`[{', '.join(_value(item).strip('`') for item in value)}]`"
    return f"`{value}`"


def main() -> None:
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
