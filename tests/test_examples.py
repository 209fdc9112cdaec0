"""What the gallery shows of an example: whole pictures, and no lines of progress.

Sources are read, not run: the gallery itself runs them.
"""

import ast
import re
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
BLOCK = re.compile(r"^# %%.*$", re.MULTILINE)
MAKERS = {"subplots", "figure", "subplot_mosaic", "add_subplot"}


def names_of(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def pictures_in_two_blocks(text: str) -> list[str]:
    """Axes made in one block and used in another; figures are closed in between."""
    faults, before = [], set()
    for block in BLOCK.split(text):
        nodes = list(ast.walk(ast.parse(block)))
        made = {
            name
            for node in nodes
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
            and node.value.func.attr in MAKERS
            for target in node.targets
            for name in names_of(target)
        }
        used = {
            node.id
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        faults += [
            f"{name} is drawn on in a later block" for name in before & used - made
        ]
        before |= made
    return faults


def runs_with_progress(text: str) -> list[str]:
    """Runs that report their progress, which the gallery would show as output."""
    return [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("simulate")
        and "progress" not in {keyword.arg for keyword in node.keywords}
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", [pictures_in_two_blocks, runs_with_progress])
def test_examples_show_whole_pictures_and_no_progress(rule, path):
    assert rule(path.read_text("utf-8")) == []


def test_the_rules_find_what_they_look_for():
    split = "_, (a, b) = plt.subplots(1, 2)\na.plot(1)\n# %%\nb.plot(2)\n"
    assert pictures_in_two_blocks(split) == ["b is drawn on in a later block"]
    again = "_, a = plt.subplots()\na.plot(1)\n# %%\n_, a = plt.subplots()\na.plot(2)\n"
    assert pictures_in_two_blocks(again) == []
    assert runs_with_progress("run = nf.simulate(p, ts)") == ["line 1"]
    assert runs_with_progress("run = nf.simulate(p, ts, progress=False)") == []
