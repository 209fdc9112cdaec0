"""The package keeps the rules of the house, and every rule can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from . import architecture as house
from .architecture import Source

ROOT = Path(__file__).parents[1]
MAX_EXAMPLE_LINES = 120


@pytest.fixture(scope="module")
def package() -> list[Source]:
    sources = house.read_package(ROOT)
    assert f"{house.PACKAGE}/__init__.py" in {source.path for source in sources}
    return sources


def module(path: str, text: str = "") -> Source:
    return Source(f"{house.PACKAGE}/{path}", f'"""A module."""\n{text}')


def expect_none(faults: list[str]) -> None:
    assert not faults, "\n".join(faults)


def test_no_import_cycle(package):
    expect_none(house.find_cycles(package))


def test_rooms_import_downward(package):
    expect_none(house.find_upward_imports(package))


def test_public_names_have_docstrings(package):
    expect_none(house.find_missing_docstrings(package))


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_package_keeps_the_rule(rule: Callable[[Source], list[str]], package):
    expect_none([fault for source in package for fault in rule(source)])


def test_tests_named_in_docstrings_exist(package):
    expect_none([
        f for source in package for f in house.find_missing_tests(source, ROOT)
    ])


def test_package_defines_nothing_itself(package):
    (init,) = [source for source in package if source.room is None]
    kinds = house.ast.FunctionDef, house.ast.AsyncFunctionDef, house.ast.ClassDef
    assert list(init.nodes(*kinds)) == []


def test_examples_are_numbered_and_short():
    paths = sorted((ROOT / "examples").glob("*.py"))
    assert paths
    for path in paths:
        assert path.name[:2].isdigit(), f"{path.name} has no number"
        assert path.name[2] == "_", path.name
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= MAX_EXAMPLE_LINES, f"{path.name} has {lines} lines"


# Each rule on a source that breaks it, and on its nearest neighbour that does not.

# Put together here, so that a search for them finds only what uses them.
PRIVATE, CORE = (".".join(("jax", name)) for name in ("_src", "core"))

BAD = [
    (
        house.find_measures_importing_flows,
        module("measures/_drift.py", "def f():\n    from ..flows import Gradient\n"),
    ),
    (
        house.find_measures_importing_flows,
        module("measures.py", "import ntkflow.flows._gradient"),
    ),
    (
        house.find_stray_solves,
        module("measures/_drift.py", "from diffrax import diffeqsolve"),
    ),
    (house.find_stray_solves, module("theory.py", "y = diffrax.diffeqsolve(term)")),
    (house.find_private_jax, module("kernels.py", f"from {PRIVATE} import core")),
    (house.find_private_jax, module("kernels.py", "from jax import _src")),
    (house.find_private_jax, module("kernels.py", f"from {CORE} import Tracer")),
    (
        house.find_private_jax,
        module("kernels.py", f"import jax\n{PRIVATE}.core.eval()"),
    ),
    (
        house.find_private_jax,
        module("kernels.py", f'importlib.import_module("{PRIVATE}.core")'),
    ),
    (house.find_raw_parameters, module("kernels.py", 'equation.params["mode"]')),
    (house.find_raw_parameters, module("kernels.py", "p = step.equation.params")),
    (house.find_pickle, module("storage.py", "def f():\n    import pickle")),
    (house.find_pickle, module("storage.py", "from cloudpickle import dumps")),
    (house.find_pickle, module("storage.py", "np.load(file, allow_pickle=True)")),
    (house.find_pickle, module("storage.py", "np.load(file, allow_pickle=flag)")),
    (
        house.find_bare_excepts,
        module("storage.py", "try:\n    f()\nexcept:\n    raise"),
    ),
    (house.find_nan_to_num, module("theory.py", "y = jnp.nan_to_num(x)")),
    (
        house.find_rounded_programs,
        module("theory.py", "@eqx.filter_jit\ndef f(): ..."),
    ),
    (
        house.find_rounded_programs,
        module("theory.py", "@at_full_precision\n@eqx.filter_jit\ndef f(): ..."),
    ),
    (house.find_nan_to_num, module("theory.py", "from numpy import nan_to_num as n")),
    (house.find_nan_to_num, module("theory.py", "y = f(x).nan_to_num()")),
    (house.find_long_files, module("theory.py", "x = 0\n" * house.MAX_FILE_LINES)),
    (
        house.find_long_files,
        module(
            "theory.py",
            "x = 0\n" * house.MAX_FILE_LINES + "# Longer than 400 lines: too late",
        ),
    ),
    (
        house.find_long_functions,
        module("theory.py", "def f():\n" + "    x = 0\n" * (house.MAX_BODY_LINES + 1)),
    ),
    (
        house.find_long_functions,
        module(
            "theory.py",
            "class A:\n    async def f(self):\n"
            + "        x = 0\n" * (house.MAX_BODY_LINES + 1),
        ),
    ),
]

GOOD = [
    (
        house.find_measures_importing_flows,
        module("simulate.py", "from .flows import Gradient"),
    ),
    (
        house.find_stray_solves,
        module("simulate/_solve.py", "from diffrax import diffeqsolve"),
    ),
    (house.find_private_jax, module("kernels.py", "import jax.extend.core")),
    (house.find_raw_parameters, module("_equations.py", "equation.params")),
    (house.find_raw_parameters, module("kernels.py", "parameters(equation)")),
    (house.find_pickle, module("storage.py", "np.load(file, allow_pickle=False)")),
    (
        house.find_bare_excepts,
        module("storage.py", "try:\n    f()\nexcept OSError:\n    raise"),
    ),
    (house.find_nan_to_num, module("theory.py", "# nan_to_num would hide it")),
    (
        house.find_rounded_programs,
        module("theory.py", "@eqx.filter_jit\n@at_full_precision\ndef f(): ..."),
    ),
    (
        house.find_long_files,
        module("theory.py", "x = 0\n" * (house.MAX_FILE_LINES - 1)),
    ),
    (
        house.find_long_files,
        module(
            "theory.py",
            "# Longer than 400 lines: a table\n" + "x = 0\n" * house.MAX_FILE_LINES,
        ),
    ),
    (
        house.find_long_functions,
        module(
            "theory.py",
            'def f(\n    a,\n):\n    """Doc.\n\n    More.\n    """\n'
            + "    x = 0\n" * house.MAX_BODY_LINES,
        ),
    ),
    (
        house.find_long_functions,
        module(
            "theory.py",
            "# Long: one table\n@final\ndef f():\n"
            + "    x = 0\n" * (house.MAX_BODY_LINES + 1),
        ),
    ),
]


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _ in BAD} == set(house.RULES) == {rule for rule, _ in GOOD}


@pytest.mark.parametrize(("rule", "source"), BAD)
def test_rule_finds_the_fault(rule: Callable, source: Source):
    (fault,) = rule(source)
    assert fault.startswith(f"{source.path}:")


@pytest.mark.parametrize(("rule", "source"), GOOD)
def test_rule_accepts_what_is_right(rule: Callable, source: Source):
    assert rule(source) == []


@pytest.mark.parametrize(
    "sources",
    [
        [
            module("a.py", "from .b import f"),
            module("b.py", "def g():\n    from . import a"),
        ],
        [
            module("a/__init__.py", "from ._x import f"),
            module("a/_x.py", "from . import f"),
        ],
        [
            module("a/_x.py", "from ._y import f"),
            module("a/_y.py", "from ntkflow.a import _x"),
        ],
        [module("a.py", "from .a import f")],
        [
            module("a.py", "from .b import f"),
            module("b.py", "from .c import f"),
            module("c.py", 'importlib.import_module("ntkflow.a")'),
        ],
    ],
    ids=["in a function", "own room", "relative and absolute", "itself", "three"],
)
def test_import_cycle_is_found(sources: list[Source]):
    assert len(house.find_cycles(sources)) == 1


def test_siblings_and_their_room_are_no_cycle():
    sources = [
        module("a/__init__.py", "from ._x import f\nfrom . import _y"),
        module("a/_x.py", "from ._y import g\nfrom .._types import Params"),
        module("a/_y.py", "import numpy as np"),
        module("_types.py"),
    ]
    assert house.find_cycles(sources) == []


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (module("data/_digits.py", "from ..models import MLP"), "ntkflow.models.MLP"),
        (module("data.py", "def f():\n    from ntkflow import plots"), "ntkflow.plots"),
        (module("_types.py", "from . import _errors"), "ntkflow._errors"),
        (module("plots.py", "import ntkflow as nf"), "imports ntkflow,"),
        (module("plots.py", "from ntkflow import Problem"), "ntkflow.Problem"),
        (module("utils.py"), "'utils' is not a known room"),
    ],
)
def test_upward_import_is_found(source: Source, part: str):
    (fault,) = house.find_upward_imports([source])
    assert part in fault


def test_downward_imports_and_the_package_itself_are_allowed():
    init = module("__init__.py", "from . import cli, plots\nfrom .models import MLP")
    below = module("simulate/_solve.py", "from ..flows import Gradient\nimport jax")
    assert house.find_upward_imports([init, below]) == []


@pytest.mark.parametrize(
    "source",
    [
        Source("ntkflow/theory.py", "x = 0"),
        module("theory/_modes.py", "def f(): pass"),
        module("theory/_modes.py", "async def f(): pass"),
        module("theory/_modes.py", "class A: pass"),
        module("theory.py", 'class A:\n    "Doc."\n    def f(self): pass'),
        module("theory.py", 'class A(B):\n    "Doc."\n    def f(self): pass'),
        module("theory.py", "if True:\n    def f(): pass"),
    ],
)
def test_missing_docstring_is_found(source: Source):
    (fault,) = house.find_missing_docstrings([source])
    assert fault.startswith(f"{source.path}:")


def test_private_names_and_overridden_methods_need_no_docstring():
    sources = [
        module("theory.py", "def _f(): pass"),
        module("theory.py", 'def f():\n    "Doc."\n    def g(): pass'),
        module("flows/_base.py", 'class A:\n    "Doc."\n    def f(self): "Doc."'),
        module("flows/_new.py", 'class B(A):\n    "Doc."\n    def f(self): pass'),
        module("flows.py", 'class C(_base.B):\n    "Doc."\n    def f(self): pass'),
    ]
    assert house.find_missing_docstrings(sources) == []


@pytest.mark.parametrize(
    ("verified", "right"),
    [
        ("tests/theory/test_modes.py::test_modes_decay", True),
        ("tests/theory/test_modes.py::TestModes::test_decay", True),
        (
            "\n    tests/theory/test_modes.py::test_modes_decay,\n"
            "    tests/theory/test_modes.py::TestModes::test_decay[relu-2].",
            True,
        ),
        ("tests/theory/test_modes.py::test_modes_decay\nSource: Saxe (2014)", True),
        ("tests/theory/test_modes.py::test_modes_grow", False),
        ("tests/theory/test_modes.py::TestModes::test_modes_decay", False),
        ("tests/theory/test_lost.py::test_modes_decay", False),
        ("tests/theory/test_modes.py", False),
        ("tests/theory/test_modes.py::test_modes_decay, test_modes_grow", False),
        ("the tests", False),
    ],
)
def test_reference_to_a_test_is_followed(verified: str, right: bool, tmp_path: Path):
    (tmp_path / "tests" / "theory").mkdir(parents=True)
    (tmp_path / "tests" / "theory" / "test_modes.py").write_text(
        "def test_modes_decay(): pass\n"
        "class TestModes:\n    def test_decay(self): pass\n"
    )
    source = module(
        "theory.py", f'def f():\n    """Doc.\n\nVerified by: {verified}\n"""'
    )
    assert (house.find_missing_tests(source, tmp_path) == []) == right
