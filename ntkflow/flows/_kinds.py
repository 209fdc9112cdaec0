"""What sort of flow a flow is, whatever name it was given."""

from ._base import AbstractFlow
from ._descent import Descent
from ._modified import Modified
from ._parameters import Gradient, Momentum
from ._quadrature import Quadrature
from ._residual import Linearized, Residual

_KINDS = {
    Gradient: "gradient",
    Momentum: "momentum",
    Descent: "descent",
    Modified: "modified",
    Linearized: "linearized",
}


def kind_of(flow: AbstractFlow) -> str:
    """The name that flows of this sort have unless they are given another.

    Args:
        flow: The flow.

    Returns:
        Such as `"descent"`; of a flow of one's own, its name.

    Verified by:
        tests/simulate/test_named_flows.py::test_kinds_are_the_names_that_flows_begin_with
    """
    if isinstance(flow, Residual):
        return f"residual_{flow.kernel}"
    return _KINDS.get(type(flow), flow.name)


def is_built_in(flow: AbstractFlow) -> bool:
    """Whether a flow is one of the library's kinds.

    Args:
        flow: The flow.

    Returns:
        False for a flow of one's own.
    """
    return isinstance(flow, Residual | Quadrature) or type(flow) in _KINDS
