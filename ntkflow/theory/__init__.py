"""Closed forms: what the flows do where they can be solved by hand."""

from ._descent import (
    descent_decay as descent_decay,
    descent_gap as descent_gap,
    descent_gap_of_modes as descent_gap_of_modes,
)
from ._phi import phi as phi, phi_slopes as phi_slopes, phis as phis
