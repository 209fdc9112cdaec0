"""What README.md and the pages of docs tell a reader to type is run.

Every command is known here, with what it must have done; every block of Python runs.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from ntkflow.experiments import parse_experiment

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"sh", "bash", "console"}
SILENT = {"text", "toml", "{toctree}"}
"""Languages of blocks that are shown, not run."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_blocks(markdown: str) -> list[tuple[str, str]]:
    """Language and text of every block of code, "" where no language is given."""
    return [
        (token.info.strip(), token.content)
        for token in MarkdownIt().parse(markdown)
        if token.type in {"fence", "code_block"}
    ]


def commands(markdown: str) -> list[str]:
    """Every command of the shell blocks, one by one."""
    found = []
    for language, text in code_blocks(markdown):
        if language not in SHELL:
            continue
        lines = text.replace("\\\n", " ").splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line[:2] == "$ "]
        typed = [line for line in map(str.strip, lines) if line and line[0] != "#"]
        found += [command.strip() for line in typed for command in line.split("&&")]
    return found


def run(arguments: list[str], folder: Path, seconds: float) -> str:
    """What a command prints, run in `folder` as a reader would run it."""
    scripts = Path(sys.executable).parent
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}"
    return done.stdout


def lists_the_experiments(output: str, folder: Path) -> None:
    for name in ("digits", "digits-rich", "deep-linear", "digits-cnn"):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", output), output


def names_the_device(output: str, folder: Path) -> None:
    assert "cpu" in output.lower() or "gpu" in output.lower(), output


def prints_a_schema(output: str, folder: Path) -> None:
    assert json.loads(output)["properties"]["solver"]


def writes_one_report(output: str, folder: Path) -> None:
    (report,) = folder.rglob("*.html")
    html = report.read_text("utf-8")
    assert "<html" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", html)


CI_COMMANDS = {
    "python -m pip install -e .",
    "python -m pip install -e '.[dev]'",
    "pytest",
}
"""The commands `.ci/run` itself is made of."""

QUICK_COMMANDS: dict[str, Callable[[str, Path], None]] = {
    "ntkflow list": lists_the_experiments,
    "ntkflow doctor": names_the_device,
    "ntkflow schema": prints_a_schema,
}
SLOW_COMMANDS: dict[str, Callable[[str, Path], None]] = {
    "ntkflow run digits": writes_one_report,
}
"""What each command must have done, given what it printed and the folder it ran in."""

KNOWN = {*CI_COMMANDS, *QUICK_COMMANDS, *SLOW_COMMANDS}


def test_exactly_the_known_commands_are_shown():
    assert {c for page in PAGES for c in commands(page.read_text("utf-8"))} == KNOWN


@each_page
def test_every_block_has_a_known_language(page: Path):
    languages = {language for language, _ in code_blocks(page.read_text("utf-8"))}
    assert languages <= SHELL | SILENT | {"python"}


@pytest.mark.parametrize("command", sorted(CI_COMMANDS))
def test_continuous_integration_runs_the_command(command: str):
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert command in map(str.strip, lines)


@pytest.mark.parametrize("command", QUICK_COMMANDS)
def test_quick_command_does_its_work(command: str, tmp_path: Path):
    QUICK_COMMANDS[command](run(shlex.split(command), tmp_path, 120), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW_COMMANDS)
def test_slow_command_does_its_work(command: str, tmp_path: Path):
    SLOW_COMMANDS[command](run(shlex.split(command), tmp_path, 600), tmp_path)


@pytest.mark.slow
@each_page
def test_python_of_the_page_runs(page: Path, tmp_path: Path):
    text = page.read_text("utf-8")
    script = "\n".join(
        code for language, code in code_blocks(text) if language == "python"
    )
    run([sys.executable, "-c", script], tmp_path, 300)
    written = re.findall(r'savefig\("([^"]+)"', script)
    assert set(written) == {path.name for path in tmp_path.iterdir()}


@each_page
def test_experiments_on_the_page_are_valid(page: Path):
    for language, code in code_blocks(page.read_text("utf-8")):
        if language == "toml":
            parse_experiment(tomllib.loads(code), page.name)


@each_page
def test_links_lead_somewhere(page: Path):
    tokens = MarkdownIt().parse(page.read_text("utf-8"))
    parts = [part for token in tokens for part in token.children or []]
    links = [str(part.attrs.get("href") or part.attrs.get("src", "")) for part in parts]
    local = [link.split("#")[0] for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_commands_are_read_from_every_kind_of_block():
    markdown = (
        "```sh\n# why\nmake it && ntkflow \\\n  run\n```\n"
        "- item\n\n  ```console\n  $ pytest\n  3 passed\n  ```\n"
        "```python\nimport os\n```\n"
    )
    assert commands(markdown) == ["make it", "ntkflow    run", "pytest"]


def test_code_without_a_language_is_seen():
    assert code_blocks("```\nrm\n```\n\ntext\n\n    ls\n") == [
        ("", "rm\n"),
        ("", "ls\n"),
    ]
