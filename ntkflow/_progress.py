"""What a long computation tells the person who waits: one line, kept up to date."""

import importlib
import time
import warnings
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

_PLAIN_SECONDS = 5.0
"""Where no terminal can redraw a line, a new one is printed this often."""


_NOTEBOOK_SECONDS = 0.25
"""A notebook's line is replaced this often at most; each time is a message."""


def duration(seconds: float) -> str:
    """A duration in words a person reads at a glance.

    Args:
        seconds: The duration.

    Returns:
        For instance `"8 s"`, `"3 min 20 s"`, `"2 h 5 min"`.
    """
    if not seconds < 1e6:
        return "days"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _NotebookLine:
    """A line of a notebook's output that is replaced, not followed by the next one."""

    def __init__(self):
        # Where a kernel runs IPython does, which is no dependency elsewhere.
        self._display = importlib.import_module("IPython.display").display
        self._handle: Any = None

    def update(self, line: str) -> None:
        content = {"text/plain": line}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class Progress:
    """One line of progress; nothing if not `enabled`.

    A terminal redraws it on standard error, a notebook replaces it in the output of the
    cell; elsewhere a new line is printed from time to time.

    Args:
        enabled: Whether to print at all.
    """

    def __init__(self, *, enabled: bool):
        self._enabled = enabled
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._notebook: _NotebookLine | None = None
        self._printed = -_PLAIN_SECONDS
        self._last = ""

    @property
    def enabled(self) -> bool:
        """Whether anything is printed."""
        return self._enabled

    def __enter__(self) -> "Progress":
        if self._enabled and self._console.is_jupyter:
            self._notebook = _NotebookLine()
        elif self._enabled and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._enabled and self._last:
            self._print(self._last)

    def say(self, line: str) -> None:
        """Prints a line that stays.

        Args:
            line: The line.
        """
        if self._enabled:
            # Names and paths may hold what rich takes for markup or an emoji's code.
            self._console.print(
                line, highlight=False, markup=False, emoji=False, soft_wrap=True
            )

    def warn(self, text: str) -> None:
        """Tells what must not be missed: a run that says nothing else warns.

        Args:
            text: What to say.
        """
        if self._enabled:
            self.say(f"Warning: {text}")
        else:
            warnings.warn(text, stacklevel=3)

    def update(self, line: str) -> None:
        """Replaces the line of progress.

        Args:
            line: The new line.
        """
        if self._live is not None:
            # Cut at the edge: a line that wraps jumps up and down.
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif self._enabled:
            self._last = line
            now = time.monotonic()
            often = _PLAIN_SECONDS if self._notebook is None else _NOTEBOOK_SECONDS
            if now - self._printed >= often:
                self._printed = now
                self._last = ""
                self._print(line)

    def _print(self, line: str) -> None:
        if self._notebook is not None:
            self._notebook.update(line)
        else:
            self.say(line)
