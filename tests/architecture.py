"""The rules of the house, each a function from sources to the faults it finds.

`test_architecture.py` applies every rule to the package and shows on a small bad source
that the rule can fail. Sources are read, never imported: an import inside a function
counts as much as one at the top.
"""

import ast
import dataclasses
import functools
import graphlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

PACKAGE = "ntkflow"
ROOMS = (
    "_types",
    "_tracing",
    "_equations",
    "_errors",
    "_progress",
    "_interruption",
    "_precision",
    "_sharding",
    "storage",
    "data",
    "models",
    "problem",
    "kernels",
    "infinite",
    "theory",
    "flows",
    "solvers",
    "measures",
    "simulate",
    "experiments",
    "studies",
    "analysis",
    "plots",
    "cli",
    "__main__",
)
"""From the ground up: a room imports only rooms before it."""

MAY_SOLVE = frozenset({"simulate", "models", "flows", "infinite"})
"""Training time is integrated in `simulate`; the others integrate depth."""

MAX_FILE_LINES = 400
MAX_BODY_LINES = 60
REASON_WITHIN = 30
"""A long file states its reason in its first lines."""

PICKLERS = frozenset({
    "pickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
})

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Source:
    """One module: its path from the repository's root, and its text."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @functools.cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str | None:
        """The room this module lies in, None for the package's own `__init__`."""
        return room_of(self.module)

    def nodes(self, *kinds: type[Node]) -> Iterator[Node]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def fault(self, node: ast.AST | int, text: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {text}"


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def read_package(root: Path) -> list[Source]:
    """Every module of the package under `root`."""
    return [
        Source(path.relative_to(root).as_posix(), path.read_text("utf-8"))
        for path in sorted((root / PACKAGE).rglob("*.py"))
    ]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every name imported, in full, with the line; wherever the import stands."""
    package = source.module.split(".")
    if not source.is_package:
        package = package[:-1]
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                prefix = ".".join([*base, module] if module else base)
                yield from ((node.lineno, f"{prefix}.{a.name}") for a in names)
            case ast.Call(
                func=ast.Name("import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of attributes, the empty string for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr) if dotted(value):
            return f"{dotted(value)}.{attr}"
    return ""


def mentions(source: Source) -> Iterator[tuple[int, str]]:
    """Every imported or dotted name."""
    yield from imports(source)
    for node in source.nodes(ast.Name, ast.Attribute):
        yield node.lineno, dotted(node) or getattr(node, "attr", "")


def internal_imports(source: Source, modules: set[str]) -> set[str]:
    """The package's own modules that a module imports.

    `from .models import Scaled` reaches the module `models`, `from . import _mlp` the
    module `_mlp`. That Python also runs the packages above it is no dependency.
    """
    reached = set()
    for _, name in imports(source):
        while name not in modules and "." in name:
            name = name.rpartition(".")[0]
        reached.add(name)
    return reached & modules


def find_cycles(sources: Sequence[Source]) -> list[str]:
    modules = {source.module for source in sources}
    graph = {source.module: internal_imports(source, modules) for source in sources}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["import cycle: " + " <- ".join(error.args[1])]
    return []


def find_upward_imports(sources: Sequence[Source]) -> list[str]:
    faults = []
    for source in sources:
        if source.room is None:
            continue
        if source.room not in ROOMS:
            faults.append(source.fault(1, f"{source.room!r} is not a known room"))
            continue
        below = ROOMS[: ROOMS.index(source.room) + 1]
        faults += [
            source.fault(line, f"{source.room} imports {name}, which is not below it")
            for line, name in imports(source)
            if name.split(".")[0] == PACKAGE and room_of(name) not in below
        ]
    return faults


def find_measures_importing_flows(source: Source) -> list[str]:
    if source.room != "measures":
        return []
    return [
        source.fault(line, "a measure says by a string what it needs, imports no flow")
        for line, name in imports(source)
        if room_of(name) == "flows" and name.split(".")[0] == PACKAGE
    ]


def find_stray_solves(source: Source) -> list[str]:
    if source.room in MAY_SOLVE:
        return []
    return [
        source.fault(line, f"diffeqsolve outside {', '.join(sorted(MAY_SOLVE))}")
        for line, name in mentions(source)
        if name.split(".")[-1] == "diffeqsolve"
    ]


PRIVATE_JAX = tuple(f"jax.{part}." for part in ("_src", "core", "interpreters"))


def find_private_jax(source: Source) -> list[str]:
    """Uses of what JAX may change without notice; `jax.extend.core` is the door."""
    lines = {
        line for line, name in mentions(source) if f"{name}.".startswith(PRIVATE_JAX)
    }
    return [source.fault(line, "this is private to JAX") for line in sorted(lines)]


def find_raw_parameters(source: Source) -> list[str]:
    """Parameters of equations that are read elsewhere: JAX changes their names."""
    if source.room == "_equations":
        return []
    return [
        source.fault(node, "parameters of equations are read by _equations.parameters")
        for node in source.nodes(ast.Attribute)
        if node.attr == "params" and dotted(node.value).split(".")[-1] == "equation"
    ]


def find_pickle(source: Source) -> list[str]:
    faults = [
        source.fault(line, f"{name.split('.')[0]} runs code when it reads a file")
        for line, name in imports(source)
        if name.split(".")[0] in PICKLERS
    ]
    for node in source.nodes(ast.keyword):
        match node:
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="allow_pickle"):
                faults.append(source.fault(node, "allow_pickle must be False"))
    return faults


def find_bare_excepts(source: Source) -> list[str]:
    return [
        source.fault(node, "bare except")
        for node in source.nodes(ast.ExceptHandler)
        if node.type is None
    ]


def find_nan_to_num(source: Source) -> list[str]:
    return [
        source.fault(line, "nan_to_num hides what went wrong")
        for line, name in mentions(source)
        if name.split(".")[-1] == "nan_to_num"
    ]


def find_rounded_programs(source: Source) -> list[str]:
    """Compiled functions whose products do not ask for full precision."""
    faults = []
    for node in source.nodes(ast.FunctionDef):
        names = [ast.unparse(decorator) for decorator in node.decorator_list]
        for i, name in enumerate(names):
            if name.endswith("filter_jit") and "at_full_precision" not in names[i:]:
                faults.append(
                    source.fault(
                        node,
                        f"{node.name} is compiled without @at_full_precision: a GPU "
                        "rounds its products to ten bits",
                    )
                )
    return faults


def find_long_files(source: Source) -> list[str]:
    count = len(source.lines)
    stated = re.compile(rf"# Longer than {MAX_FILE_LINES} lines: \S")
    if count <= MAX_FILE_LINES or any(map(stated.match, source.lines[:REASON_WITHIN])):
        return []
    return [source.fault(1, f"{count} lines, and no reason in its first lines")]


def body_length(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    statements = function.body
    if ast.get_docstring(function) is not None:
        statements = statements[1:]
    if not statements:
        return 0
    return (function.end_lineno or 0) - statements[0].lineno + 1


def find_long_functions(source: Source) -> list[str]:
    faults = []
    for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        before = source.lines[first - 2].strip() if first > 1 else ""
        length = body_length(node)
        if length > MAX_BODY_LINES and not re.match(r"# Long: \S", before):
            text = f"the body of {node.name} has {length} lines, and no reason above it"
            faults.append(source.fault(node, text))
    return faults


def _definitions(body: Sequence[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _definitions([*node.body, *node.orelse])
        elif isinstance(node, Function | ast.ClassDef):
            decorators = {dotted(d).split(".")[-1] for d in node.decorator_list}
            if not node.name.startswith("_") and not decorators & {
                "overload",
                "setter",
            }:
                yield node


def _documented_methods(sources: Sequence[Source]) -> dict[str, set[str]]:
    """By class, the methods documented in it or in its bases of the package."""
    classes = {c.name: c for source in sources for c in source.nodes(ast.ClassDef)}

    def methods(name: str, seen: frozenset[str]) -> set[str]:
        if name not in classes or name in seen:
            return set()
        own = {m.name for m in _definitions(classes[name].body) if ast.get_docstring(m)}
        bases = [dotted(base).split(".")[-1] for base in classes[name].bases]
        return own.union(*(methods(base, seen | {name}) for base in bases))

    return {name: methods(name, frozenset()) for name in classes}


def find_missing_docstrings(sources: Sequence[Source]) -> list[str]:
    """Public names without a docstring, an overridden method's being inherited.

    Ruff asks this of public files only; public names live in private ones too.
    """
    documented = _documented_methods(sources)
    faults = []
    for source in sources:
        if not ast.get_docstring(source.tree):
            faults.append(source.fault(1, "no docstring"))
        for node in _definitions(source.tree.body):
            if not ast.get_docstring(node):
                faults.append(source.fault(node, f"{node.name} has no docstring"))
            if isinstance(node, ast.ClassDef):
                faults += [
                    source.fault(method, f"{node.name}.{method.name} has no docstring")
                    for method in _definitions(node.body)
                    if not ast.get_docstring(method)
                    and method.name not in documented[node.name]
                ]
    return faults


_REFERENCE = re.compile(r"(tests/[\w/]+\.py)::(\w+(?:::\w+)*)(?:\[[^\]]*\])?")
_PARAGRAPH = re.compile(r"Verified by:(.*?)(?=\n\s*\n|\n\s*[A-Z][\w ]*:|\Z)", re.DOTALL)


def _docstrings(source: Source) -> Iterator[tuple[int, str]]:
    for node in source.nodes(
        ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    ):
        if text := ast.get_docstring(node):
            yield getattr(node, "lineno", 1), text


def has_test(root: Path, path: str, name: str) -> bool:
    """Whether the file at `path` defines `name`, as `test_x` or `TestX::test_x`."""
    file = root / path
    if not file.is_file():
        return False
    body: Sequence[ast.stmt] = ast.parse(file.read_text("utf-8"), path).body
    for part in name.split("::"):
        named = [
            node
            for node in body
            if isinstance(node, Function | ast.ClassDef) and node.name == part
        ]
        if not named:
            return False
        body = named[0].body
    return True


def find_missing_tests(source: Source, root: Path) -> list[str]:
    faults = []
    for line, docstring in _docstrings(source):
        for paragraph in _PARAGRAPH.findall(docstring):
            references = _REFERENCE.findall(paragraph)
            rest = re.sub(r"\band\b|[\s,;.`]", "", _REFERENCE.sub("", paragraph))
            if rest or not references:
                text = f"'Verified by:{paragraph}' does not name tests/file.py::test"
                faults.append(source.fault(line, text))
            faults += [
                source.fault(line, f"there is no test {path}::{name}")
                for path, name in references
                if not has_test(root, path, name)
            ]
    return faults


RULES: tuple[Callable[[Source], list[str]], ...] = (
    find_measures_importing_flows,
    find_stray_solves,
    find_private_jax,
    find_raw_parameters,
    find_pickle,
    find_bare_excepts,
    find_nan_to_num,
    find_rounded_programs,
    find_long_files,
    find_long_functions,
)
"""The rules that look at one module alone."""
