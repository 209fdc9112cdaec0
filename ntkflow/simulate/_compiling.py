"""How long JAX compiles, so that what a run takes can be told without it."""

import threading
from typing import Any

import jax.monitoring

_PREFIX = "/jax/core/compile/"
"""Tracing, lowering and compiling; what a cache on disk holds is read there, too."""


class CompileClock:
    """Wall time that JAX spends compiling in this thread, while it is entered."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> "CompileClock":
        jax.monitoring.register_event_time_span_listener(self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._note)

    def _note(
        self, event: str, start_time: float, end_time: float, **kwargs: Any
    ) -> None:
        del kwargs
        if not event.startswith(_PREFIX) or threading.get_ident() != self._thread:
            return
        # One function is traced inside another, whose span ends later and holds it.
        while self._spans and self._spans[-1][0] >= start_time:
            self._spans.pop()
        self._spans.append((start_time, end_time))

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return sum((end - start for start, end in self._spans), start=0.0)
