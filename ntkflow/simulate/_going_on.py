"""How to go on with a simulation that something outside has ended."""

import contextlib
import signal
import sys
from collections.abc import Generator
from pathlib import Path

from .._interruption import TERMINATED, ending_on
from ..storage import DiskFullError


@contextlib.contextmanager
def telling_how_to_go_on(checkpoint: str | Path | None) -> Generator[None]:
    """Says how to go on if the process is told to end, or the disk fills.

    SIGTERM ends the process with status 143, unless the caller handles it; Ctrl-C
    raises `KeyboardInterrupt` as ever.

    Verified by: tests/simulate/test_going_on.py::test_sigterm_says_how_to_go_on

    Args:
        checkpoint: The checkpoint directory, or None.

    Raises:
        DiskFullError: If the disk is full.
        KeyboardInterrupt: If there was one.
    """
    if checkpoint is None:
        remedy = "Nothing is kept of a simulation without checkpoint=, a directory."
    else:
        remedy = (
            f"To go on: the same call with checkpoint={str(checkpoint)!r}, resume=True."
        )

    def say(word: str) -> None:
        # Whether progress is wanted or not: it is the last that is heard.
        print(f"\n{word}. {remedy}", file=sys.stderr)  # ruff: ignore[print]

    ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    statuses = {int(signal.SIGTERM): TERMINATED} if ours else {}
    try:
        with ending_on(statuses, lambda _: say("Terminated")):
            yield
    except KeyboardInterrupt:
        say("Interrupted")
        raise
    except DiskFullError as error:
        remedy = f"Make room first. {remedy}"
        raise DiskFullError(error.sentence, remedy, error.errno) from None
