import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from ntkflow.storage import _claim, claim, write_new_text

RACERS = 8


def race(run):
    """What `run(i)` returned in each of several threads that begin together."""
    start, returned = threading.Barrier(RACERS), {}

    def racer(i: int) -> None:
        start.wait()
        returned[i] = run(i)

    threads = [threading.Thread(target=racer, args=(i,)) for i in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return returned


def test_a_directory_is_claimed_once_at_a_time(tmp_path):
    with claim(tmp_path) as first, claim(tmp_path) as second:
        assert (first, second) == (True, False)
        with claim(tmp_path / ".") as third:
            assert not third
    with claim(tmp_path) as again:
        assert again
    with pytest.raises(RuntimeError), claim(tmp_path):
        raise RuntimeError
    with claim(tmp_path) as again:
        assert again


def test_a_claim_ends_with_its_process(tmp_path):
    script = textwrap.dedent(f"""
        import importlib.util
        spec = importlib.util.spec_from_file_location("claim", {_claim.__file__!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with module.claim({str(tmp_path)!r}) as free:
            print(free, flush=True)
            input()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with claim(tmp_path) as free:
            assert not free
        process.kill()
        process.wait()
        with claim(tmp_path) as free:
            assert free


def test_without_locks_every_claim_is_granted(tmp_path, monkeypatch):
    monkeypatch.setattr(_claim, "fcntl", None)
    with claim(tmp_path) as first, claim(tmp_path) as second:
        assert first
        assert second


@pytest.mark.parametrize("links", [True, False])
def test_of_many_writers_of_a_new_file_one_wins(tmp_path, monkeypatch, links):
    if not links:

        def link(*_):
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", link)
    path = tmp_path / "file"
    won = [
        i for i, first in race(lambda i: write_new_text(path, f"{i}")).items() if first
    ]
    assert path.read_text() == str(*won)
    assert list(tmp_path.iterdir()) == [Path(path)]
