"""Closed forms: what the flows do where they can be solved by hand."""

from ._phi import phi as phi, phi_slopes as phi_slopes, phis as phis
