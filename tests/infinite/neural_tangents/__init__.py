"""Kernels of infinite width by neural-tangents, and how they were made."""
