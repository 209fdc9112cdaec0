"""Solvers of gradient flow, work against precision; see `__main__`."""
