"""A solver that is named by a text or by its class: the error says what to pass."""

import diffrax as dfx
import pytest

import ntkflow as nf
from ntkflow.simulate._plan import plan_solves
from ntkflow.simulate._solver_names import _OBJECTS
from tests.simulate.problems import tiny


def refuse(solver, said):
    flows = [nf.flows.Gradient(), nf.flows.Linearized()]
    with pytest.raises(ValueError, match=said):
        plan_solves(
            flows,
            tiny(),
            solver=solver,
            controller=None,
            dt0=None,
            rtol=1e-4,
            atol=1e-6,
            events=(),
            dense_steps=0,
        )


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("tsit5", r"diffrax\.Tsit5\(\)"),
        ("Tsit-5", r"diffrax\.Tsit5\(\)"),
        ("diffrax.Tsit5()", r"diffrax\.Tsit5\(\)"),
        ("DOPRI8", r"diffrax\.Dopri8\(\)"),
        ("dopri", r"diffrax\.Dopri5\(\)|diffrax\.Dopri8\(\)"),
        ("kvaerno5", r"diffrax\.Kvaerno5\(\)"),
        ("chebyshev", r"nf\.solvers\.Chebyshev\(\)"),
        ("chebychev", r"nf\.solvers\.Chebyshev\(\)"),
        ("nf.solvers.Rock4()", r"nf\.solvers\.Rock4\(\)"),
        ("rock", r"nf\.solvers\.Rock4\(\)"),
        ("kernel_exponential", r"nf\.solvers\.KernelExponential\(\)"),
        ("KernelImplicit", r"nf\.solvers\.KernelImplicit\(\)"),
        ("Descent", r"nf\.solvers\.Descent\(learning_rate\)"),
        ("Auto", '"auto"'),
        ("no such thing", r'"auto", nf\.solvers\.Chebyshev.* or diffrax\.Kvaerno5'),
        ("", r'"auto", nf\.solvers\.Chebyshev'),
    ],
)
def test_a_text_is_answered_with_the_object(given, passed):
    refuse(given, rf"got the text .*: pass (solver=)?{passed}")
    refuse({"gradient": given}, rf"got the text .*: pass (solver=)?{passed}")


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (nf.solvers.Chebyshev, r"nf\.solvers\.Chebyshev\(\)"),
        (nf.solvers.Descent, r"nf\.solvers\.Descent\(learning_rate\)"),
        (dfx.Tsit5, r"diffrax\.Tsit5\(\)"),
        (dfx.LeapfrogMidpoint, r"LeapfrogMidpoint\(\.\.\.\)"),
    ],
)
def test_a_class_is_answered_with_its_instance(given, passed):
    refuse(given, rf"got the class {given.__name__}: pass solver={passed}")


@pytest.mark.parametrize("given", [5, None, ["auto"], int])
def test_anything_else_is_answered_with_what_there_is(given):
    refuse({"gradient": given}, r"solver must be \"auto\", nf\.solvers\.Chebyshev")


@pytest.mark.parametrize("text", [t for t in _OBJECTS.values() if t[0] != '"'])
def test_what_the_errors_name_exists(text):
    names = {"nf": nf, "diffrax": dfx, "learning_rate": 0.1}
    assert isinstance(eval(text, names), dfx.AbstractSolver)


def test_every_solver_of_the_library_is_named():
    own = {
        name
        for name, value in vars(nf.solvers).items()
        if isinstance(value, type)
        and issubclass(value, dfx.AbstractSolver)
        and not name.startswith("Abstract")
    }
    # It wraps a solver of diffrax, for `auto`.
    assert {name.lower() for name in own - {"Explicit"}} <= set(_OBJECTS)
