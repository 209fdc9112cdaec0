"""Sphinx settings; `sphinx-build -W -b html docs docs/_build` runs the examples too."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))  # gallery.py, by name

project = "ntkflow"
author = "the ntkflow developers"
release = importlib.metadata.version("ntkflow")
html_title = "ntkflow"
html_theme = "furo"
exclude_patterns = ["_build", "_ext"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

default_role = "code"  # `x` in a docstring is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/\d\d_[^/]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    # An example that did not change may still fail with a library that did.
    "run_stale_examples": True,
    "reset_modules": ("matplotlib", "gallery.reset_jax"),
    "backreferences_dir": None,
    "download_all_examples": False,
    "remove_config_comments": True,
    "min_reported_time": 0,
    "show_memory": False,
    # As many at once as `sphinx-build -j` says.
    "parallel": True,
}

ROOMS = {
    "storage": "Crash-safe stores.",
    "data": "Real data sets, as arrays.",
    "models": "Networks, and how they are scaled.",
    "problem": "Model, data and loss.",
    "kernels": "The empirical tangent kernel.",
    "theory": "Closed forms.",
    "flows": "The right-hand sides.",
    "solvers": "Solvers and step controllers.",
    "measures": "What is read off a state.",
    "simulate": "Training time, integrated.",
    "experiments": "Experiments as files.",
    "plots": "Pictures and the report.",
    "cli": "The command line.",
}


def public_names(room: ModuleType) -> list[str]:
    """The room's own classes and functions among the names it shows."""
    return [
        name
        for name, value in sorted(vars(room).items())
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and f"{value.__module__}.".startswith(f"{room.__name__}.")
    ]


def describe(room: str, title: str) -> str:
    """The section of one room, as Markdown around reStructuredText."""
    module = importlib.import_module(f"ntkflow.{room}")
    lines = [f"## `ntkflow.{room}`", "", title, "", "```{eval-rst}"]
    lines += [f".. automodule:: ntkflow.{room}", "   :no-members:", ""]
    for name in public_names(module):
        if inspect.isclass(getattr(module, name)):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        else:
            lines += [f".. autofunction:: {name}", ""]
    return "\n".join([*lines, "```", ""])


def list_rooms(_app: Sphinx, docname: str, content: list[str]) -> None:
    """Writes the rooms into the page `api`, in the order data flows through them."""
    if docname == "api":
        content[0] += "\n" + "\n".join(
            describe(room, title)
            for room, title in ROOMS.items()
            if importlib.util.find_spec(f"ntkflow.{room}")
        )


def set_off_evidence(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list
) -> None:
    """Makes paragraphs of `Source:` and `Verified by:`, with the tests as code."""

    def paragraph(match: re.Match) -> str:
        text = " ".join(match[2].split())
        if match[1] == "Verified by":
            text = re.sub(r"tests/[^\s,;]+\w", r"``\g<0>``", text)
        return f"\n*{match[1]}:* {text}\n"

    end = r"(?=\n\s*\n|\n[A-Z][\w ]*:|\Z)"
    evidence = re.compile(
        rf"^(Source|Verified by):(.*?){end}", re.DOTALL | re.MULTILINE
    )
    lines[:] = evidence.sub(paragraph, "\n".join(lines)).split("\n")


def keep_formulas(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list
) -> None:
    """Bars of |x| name no substitution here, and stars of a shape no emphasis."""
    for i, line in enumerate(lines):
        text = re.sub(r"^(:vartype \w+:) (.+)$", r"\1 ``\2``", line)
        lines[i] = re.sub(r"(`+[^`]*`+)|\|", lambda m: m[1] or r"\|", text)


def setup(app: Sphinx) -> None:
    """Connects the above; napoleon, which reads Google style, has priority 500."""
    app.connect("source-read", list_rooms)
    app.connect("autodoc-process-docstring", set_off_evidence, priority=400)
    app.connect("autodoc-process-docstring", keep_formulas, priority=600)
