"""How the command ends: its exit statuses, and what it says when it is cut short."""

import contextlib
import shlex
import signal
from collections.abc import Generator, Sequence

import typer
from rich.console import Console

from .._interruption import INTERRUPTED, TERMINATED, ending_on
from ..storage import DiskFullError

WRONG_CALL = 2
"""As typer and most commands have it; 1 is left to faults of ntkflow's own."""

FAILED = 3
DISK_FULL = 4

STATUSES = (
    "Exit status: 0 done; 1 a fault of ntkflow itself; "
    f"{WRONG_CALL} a wrong call, file or name; "
    f"{FAILED} integration failed, results up to there are written; "
    f"{DISK_FULL} the disk is full; {INTERRUPTED} interrupted (Ctrl-C); "
    f"{TERMINATED} terminated (SIGTERM)."
)


@contextlib.contextmanager
def telling_how_to_go_on(command: Sequence[str]) -> Generator[None]:
    """Ends what is interrupted, terminated or out of disk space with a line to go on.

    Verified by: tests/cli/test_exit.py::test_a_full_disk_ends_with_a_line_to_go_on,
        tests/cli/test_cli.py::test_an_interrupted_run_says_how_to_go_on

    Args:
        command: The command that goes on.

    Raises:
        typer.Exit: If the disk is full.
    """
    line = f"To go on: {shlex.join(command)}"
    statuses = {
        int(signal.SIGINT): INTERRUPTED,
        int(signal.SIGTERM): TERMINATED,
    }

    def say(number: int) -> None:
        word = "Interrupted" if number == signal.SIGINT else "Terminated"
        _print(f"\n{word}. {line}")

    try:
        with ending_on(statuses, say):
            yield
    except DiskFullError as error:
        _print(f"\n{error.sentence} Make room first. {line}")
        raise typer.Exit(DISK_FULL) from None


def _print(text: str) -> None:
    console = Console(stderr=True)
    console.show_cursor()
    # Unwrapped, so that the command can be copied.
    console.print(text, highlight=False, markup=False, soft_wrap=True)
