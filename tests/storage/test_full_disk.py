"""A disk that fills is one sentence, and costs nothing of what was saved."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from ntkflow.storage import (
    DiskFullError,
    Store,
    _publish,
    write_directory,
    write_file,
    write_text,
)

CODES = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "quota",
    errno.EFBIG: "larger than a file may be",
}


def fill(path):
    raise OSError(fill.code, os.strerror(fill.code))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("place", ["_force_to_disk", "_locked_directory"])
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, code, place):
    store = Store(tmp_path)
    store.write("a", {"x": np.arange(3)})
    write_text(tmp_path / "t", "old")
    monkeypatch.setattr(fill, "code", code, raising=False)
    monkeypatch.setattr(_publish, place, fill)
    for name, write in {
        "a.zarr.zip": lambda: store.write("a", {"x": np.zeros(3)}),
        "t": lambda: write_text(tmp_path / "t", "new"),
        "d": lambda: write_directory(tmp_path / "d", lambda folder: None),
    }.items():
        with pytest.raises(
            DiskFullError, match=f"{name} could not.*{CODES[code]}"
        ) as e:
            write()
        assert e.value.errno == code
        assert e.value.__suppress_context__
        assert "\n" not in str(e.value)
    monkeypatch.undo()
    np.testing.assert_array_equal(store.read("a")[0]["x"], np.arange(3))
    assert (tmp_path / "t").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.zarr.zip", "t"]


def test_other_errors_pass_through(tmp_path):
    def refuse(path):
        raise PermissionError(errno.EACCES, "no", str(path))

    with pytest.raises(PermissionError):
        write_file(tmp_path / "a", refuse)


LIMITED = """
import resource, sys
import numpy as np, xarray as xr, zarr
from ntkflow.storage import DiskFullError, Store, write_directory
store, small, big = Store(sys.argv[1]), np.arange(100.0), np.random.rand(100_000)
store.write("a", {"x": small})
write_directory(store.path / "d", lambda f: xr.Dataset({"x": ("x", small)}).to_zarr(f, zarr_format=2, consolidated=False))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for write in (
    lambda: store.write("a", {"x": big}),
    lambda: store.write("b", {"x": big}),
    lambda: write_directory(store.path / "d", lambda f: xr.Dataset({"x": ("x", big)}).to_zarr(f, zarr_format=2, consolidated=False)),
):
    try:
        write()
    except DiskFullError as error:
        print(error)
assert (store.read("a")[0]["x"] == small).all() and store.names() == ["a"]
assert (zarr.open_group(store.path / "d", mode="r")["x"][:] == small).all()
"""  # ruff: ignore[line-too-long]


def test_a_limit_of_the_system_is_told_without_a_trace(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("could not be written: it would be larger" in line for line in lines)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr.zip", "d"]
