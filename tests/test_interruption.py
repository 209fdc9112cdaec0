"""A process that is told to end does so at once, with its own status and last words."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from ntkflow._interruption import ending_on

BUSY = """
import hashlib, signal, sys
from ntkflow._interruption import ending_on
with ending_on({signal.SIGTERM: 143, signal.SIGINT: 130}, lambda n: print("told", n)):
    print("ready", flush=True)
    # Minutes in which the main thread runs no Python.
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000_000)
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_is_answered_within_long_calls(number, status):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == f"told {int(number)}\n"
    assert time.monotonic() - began < 10


def test_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with ending_on({signal.SIGTERM: 143}, print):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_other_threads_leave_signals_alone():
    found = []

    def ask():
        with ending_on({signal.SIGTERM: 143}, print):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


LOOP = """
import asyncio, os, signal
from ntkflow._interruption import ending_on

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "loop's own")
    with ending_on({signal.SIGTERM: 143}, lambda n: print("told", n)):
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_an_event_loop_keeps_its_signals():
    done = subprocess.run(
        [sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == 143
    assert done.stdout == "loop's own\ntold 15\n"
