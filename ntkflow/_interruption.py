"""A process that is told to end: it says how to go on, and ends at once.

Clusters and containers send SIGTERM, and SIGKILL some ten or thirty seconds later. A
handler of Python's runs between two steps of the main thread, which may be in a
compilation or a long segment for minutes; so a thread of its own waits for the signal.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Final

INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""Exit statuses as a shell counts them: 128 and the number of the signal."""


@contextlib.contextmanager
def ending_on(
    statuses: Mapping[int, int], say: Callable[[int], object]
) -> Generator[None]:
    """Ends the process with a status of its own when a signal comes.

    Not through Python's own end: an exception may get lost where a library calls back
    into Python, and the device would be taken down under a computation that is still
    going on there, which crashes. Files are whole at every moment.

    Outside of the main thread, which alone may set handlers, nothing is changed.

    Verified by: tests/test_interruption.py::test_a_signal_is_answered_within_long_calls

    Args:
        statuses: Exit statuses by signal.
        say: Called with the signal before the end.
    """
    if not statuses or threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = threading.Lock()

    def end(number: int) -> None:
        # Both the thread and the handler come here.
        if not ending.acquire(blocking=False):
            return
        try:
            say(number)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(statuses[number])

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    known = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if known != -1:  # an event loop's: then the handler alone has to do
        signal.set_wakeup_fd(known)
    before = {n: signal.signal(n, lambda number, _: end(number)) for n in statuses}
    waiting = threading.Thread(
        target=_wait, args=(reader, statuses, end), daemon=True, name="ntkflow-signals"
    )
    waiting.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if known == -1:
            signal.set_wakeup_fd(-1)
        writer.close()
        waiting.join()
        reader.close()


def _wait(
    reader: socket.socket, statuses: Mapping[int, int], end: Callable[[int], None]
) -> None:
    """Passes on every signal whose number arrives, until the other side is closed."""
    while numbers := reader.recv(64):
        for number in numbers:
            if number in statuses:
                end(number)
