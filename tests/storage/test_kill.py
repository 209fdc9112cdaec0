"""A process killed at random moments leaves whole parts and whole directories."""

import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ntkflow.storage import Store, find_directory, write_directory

KILLS = 12
NAMES = ("a", "b", "c")
FILES = 8
EXCHANGES = sys.platform == "linux"  # elsewhere a directory is away for a moment


def write_part(store: Store, name: str, count: int) -> None:
    """Writes a part of which every number is the same."""
    arrays = {"x": np.full((200, 100), count), "g": {"y": np.full(3, count)}}
    store.write(name, arrays, {"count": count})


def write_parts(path: Path, started) -> None:
    """Replaces parts by later ones, until killed."""
    store, rng = Store(path), random.Random()
    for count in itertools.count():
        write_part(store, rng.choice(NAMES), count)
        started.set()


def write_directories(path: Path, started) -> None:
    """Publishes one directory whose every file holds the same number, until killed."""
    count = 0

    def write(folder: Path) -> None:
        for index in range(FILES):
            (folder / str(index)).write_text(str(count))

    while True:
        count += 1
        write_directory(path, write)
        started.set()


@contextlib.contextmanager
def killed_on_leaving(target, path: Path):
    """Runs a writer, which is killed at whatever it is doing on leaving."""
    # Children are forked from a server that has imported what they need.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "ntkflow.storage._archive"])
    started = context.Event()
    writer = context.Process(target=target, args=(path, started))
    writer.start()
    try:
        assert started.wait(60)
        yield
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert writer.exitcode == -signal.SIGKILL
    writer.close()


def assert_whole(store: Store) -> None:
    assert store.names() == list(NAMES)
    for name in NAMES:
        arrays, attrs = store.read(name)
        assert arrays["x"].shape == (200, 100)
        assert np.all(arrays["x"] == attrs["count"])
        assert np.all(arrays["g"]["y"] == attrs["count"])


def test_parts_are_whole_at_every_moment_and_after_every_kill(tmp_path):
    rng, store = random.Random(0), Store(tmp_path)
    for name in NAMES:
        write_part(store, name, -1)
    for kill in range(KILLS):
        with killed_on_leaving(write_parts, tmp_path):
            deadline = time.monotonic() + rng.uniform(0.0, 0.1)
            while kill % 2 and time.monotonic() < deadline:
                assert_whole(store)
            time.sleep(max(0.0, deadline - time.monotonic()))
        assert_whole(store)
    store.write("after", {})
    files = sorted(entry.name for entry in os.scandir(tmp_path))
    assert files == [f"{name}.zarr.zip" for name in ("a", "after", "b", "c")]


def test_a_directory_is_whole_after_every_kill(tmp_path):
    rng, path = random.Random(1), tmp_path / "d"
    for _ in range(KILLS):
        with killed_on_leaving(write_directories, path):
            deadline = time.monotonic() + rng.uniform(0.0, 0.1)
            while time.monotonic() < deadline:
                assert path.is_dir() or not EXCHANGES
        folder = find_directory(path)
        contents = [file.read_text() for file in folder.iterdir()]
        assert len(contents) == FILES
        assert len(set(contents)) == 1
