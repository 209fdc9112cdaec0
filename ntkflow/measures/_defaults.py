"""Which measures a run reads unless told otherwise, and whether a set fits together."""

from collections.abc import Sequence

from ..problem import Problem
from ._alignment import Alignment
from ._base import AbstractMeasure, Variable
from ._conservation import Conservation
from ._energy import EnergyDefect
from ._kernel import kernel_size
from ._laws import conservation_laws
from ._linearization import LinearizationGap
from ._modes import Modes, reads_full_modes
from ._movement import KernelDistance, KernelDrift, KernelVelocity
from ._parameters import ParameterDistance
from ._spectrum import EffectiveRank, Spectrum
from ._targets import has_target_rows

_MODES = 10
_PARAMETER_FLOWS = ("gradient", "momentum", "descent", "modified")


def default_measures(
    problem: Problem, flow_names: Sequence[str]
) -> tuple[AbstractMeasure, ...]:
    """The measures that make sense for a problem and the flows it is trained by.

    Of several outputs, measures of the kernel read the trace kernel as well. Left out
    are comparisons with targets that are no rows of outputs, the gap to a linearized
    flow that does not run, and conservation laws where none is known or the first
    parameter flow is not gradient flow.

    Args:
        problem: The problem.
        flow_names: The kinds of the flows in order, `nf.flows.kind_of`, which are their
            names unless they were given others; the first flow of parameters is the
            one that is measured.

    Returns:
        The measures, with at most N·K modes.

    Verified by: tests/measures/test_defaults.py::test_defaults_suit_the_problem
    """
    found: list[AbstractMeasure] = []
    # Of one output the trace kernel is the kernel.
    for outputs in ("trace", "full") if problem.n_outputs > 1 else ("full",):
        found += [KernelDrift(outputs), KernelDistance(outputs)]
        found.append(KernelVelocity(outputs))
        if has_target_rows(problem):
            found.append(Alignment(outputs))
        k = min(_MODES, kernel_size(problem, outputs))
        found += [Spectrum(k, outputs), EffectiveRank(outputs)]
    k = min(_MODES, kernel_size(problem, "full"))
    found += [Modes(k), ParameterDistance(), EnergyDefect()]
    if "linearized" in flow_names and has_target_rows(problem):
        found.append(LinearizationGap())
    measured = next((name for name in flow_names if name in _PARAMETER_FLOWS), None)
    if measured == "gradient" and conservation_laws(problem):
        found.append(Conservation())
    return tuple(found)


def collect_variables(
    measures: Sequence[AbstractMeasure], problem: Problem
) -> dict[str, Variable]:
    """All variables of a set of measures, refused if they cannot share one dataset.

    Args:
        measures: The measures.
        problem: The problem.

    Returns:
        Variables by name.

    Raises:
        ValueError: If something is no measure, a measure makes no sense for the
            problem, two measures write one name, or numbers of modes differ.

    Verified by:
        tests/measures/test_defaults.py::test_measures_that_cannot_share_a_dataset_are_refused
    """
    collected: dict[str, Variable] = {}
    for measure in measures:
        if not isinstance(measure, AbstractMeasure):
            raise ValueError(
                "measures must be instances such as nf.measures.KernelDrift(), got "
                f"{measure!r}."
            )
        for name, variable in measure.variables(problem).items():
            if name in collected:
                raise ValueError(
                    f"Two measures write the variable {name!r}, the second being "
                    f"{type(measure).__name__}: give each measure once."
                )
            collected[name] = variable
    modal = [m for m in measures if reads_full_modes(m)]
    size = problem.n_examples * problem.n_outputs
    if len({size if m.k is None else m.k for m in modal}) > 1:
        listed = " and ".join(repr(measure) for measure in modal)
        raise ValueError(
            f"{listed} share the dimension `mode` but differ in its length: give them "
            "the same k."
        )
    return collected
