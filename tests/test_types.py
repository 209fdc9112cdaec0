"""Types of options hold the names that are taken at run time, and no others."""

import ast
from pathlib import Path

import pytest

from ntkflow import _types
from ntkflow.data._scaling import SCALINGS
from ntkflow.data._targets import ENCODINGS
from ntkflow.flows import _sensitivity
from ntkflow.infinite import _attention, _dropout, _embedding, _resize, _windows
from ntkflow.infinite._finite_attention import MECHANISMS
from ntkflow.kernels._choose import METHODS
from ntkflow.kernels._layouts import LAYOUTS
from ntkflow.measures._kernel import _SUFFIXES
from ntkflow.models import _cnn
from ntkflow.models._parameterization import PARAMETERIZATIONS

TAKEN = {
    "AttentionMechanism": MECHANISMS,
    "AttentionScaling": _attention.SCALINGS,
    "DecayTarget": ("zero", "initial"),
    "DropoutMask": _dropout.MASKS,
    "KernelMethod": (*METHODS, "auto"),
    "MeasuredOutputs": _SUFFIXES,
    "OutputLayout": LAYOUTS,
    "Padding": _windows.PADDINGS,
    "Parameterization": PARAMETERIZATIONS,
    "Pooling": _cnn._POOLINGS,
    "Reduction": ("sum", "mean"),
    "ResidualKernel": ("evolving", "frozen"),
    "ResizeMethod": _resize.METHODS,
    "Scaling": SCALINGS,
    "SensitivityMode": _sensitivity._MODES,
    "SolverName": ("auto",),
    "TableParameterization": _embedding.TABLES,
    "TargetEncoding": ENCODINGS,
}


def literals() -> dict[str, tuple[str, ...]]:
    """The names that a checker of types sees."""
    tree = ast.parse(Path(_types.__file__).read_text("utf-8"))
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    found = {}
    for node in seen.body:
        assert isinstance(node, ast.AnnAssign)
        assert isinstance(node.value, ast.Subscript)
        choices = ast.literal_eval(node.value.slice)
        choices = choices if isinstance(choices, tuple) else (choices,)
        found[ast.unparse(node.target)] = choices
    return found


@pytest.mark.parametrize("name", TAKEN)
def test_a_type_of_an_option_has_the_names_that_are_taken(name):
    assert set(literals()[name]) == set(TAKEN[name])


def test_every_type_of_an_option_is_compared_and_is_a_text_at_run_time():
    assert set(literals()) == set(TAKEN)
    assert all(getattr(_types, name) is str for name in TAKEN)
