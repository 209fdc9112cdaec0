"""Files and directories are replaced at once, or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ntkflow.storage import _publish, find_directory, write_directory, write_text


def names(folder) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder))


def test_text_is_written_in_place_of_the_old(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_text(path, "old")
    write_text(path, "λ\r\n")
    assert path.read_bytes() == "λ\r\n".encode()
    assert names(path.parent) == ["report.html"]


def test_a_file_is_whole_and_on_disk_before_one_rename_shows_it(tmp_path, monkeypatch):
    path, forced, replace = tmp_path / "f", [], os.replace
    write_text(path, "old")
    force = _publish._force_to_disk

    def record_force(target):
        forced.append((target.name, target.is_file() and target.read_text()))
        force(target)

    def record_replace(source, target):
        assert forced == [("f", "new")]
        assert source.read_text() == "new"
        assert target.read_text() == "old"
        replace(source, target)
        forced.append("rename")

    monkeypatch.setattr(_publish, "_force_to_disk", record_force)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(path, "new")
    assert forced[1:] == ["rename", (tmp_path.name, False)]
    assert path.read_text() == "new"


def test_a_directory_replaces_another_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "trajectory.zarr"
    for value in range(3):
        dataset = xr.Dataset({f"x{value}": ("time", np.full(3, float(value)))})
        write_directory(
            path, lambda folder, d=dataset: d.to_zarr(folder, mode="w", zarr_format=2)
        )
    with xr.open_zarr(path) as read:
        assert list(read) == ["x2"]
        np.testing.assert_array_equal(read.x2, np.full(3, 2.0))
    assert names(tmp_path) == ["trajectory.zarr"]


def test_an_error_while_writing_leaves_the_old_directory(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise OSError("disk full")

    write_directory(tmp_path / "d", lambda folder: (folder / "a").write_text(""))
    with pytest.raises(OSError, match="disk full"):
        write_directory(tmp_path / "d", fail)
    assert names(tmp_path) == ["d"]
    assert names(tmp_path / "d") == ["a"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "f").write_text("kept")
    with pytest.raises(ValueError, match="is a file; expected a directory"):
        write_directory(tmp_path / "f", lambda folder: None)
    assert (tmp_path / "f").read_text() == "kept"


def test_every_file_is_forced_to_disk_before_the_rename(tmp_path, monkeypatch):
    events = []
    force, replace = _publish._force_to_disk, _publish._replace_directory

    def record_force(path):
        events.append(path.name)
        force(path)

    def record_replace(new, path):
        events.append("rename")
        replace(new, path)

    monkeypatch.setattr(_publish, "_force_to_disk", record_force)
    monkeypatch.setattr(_publish, "_replace_directory", record_replace)

    def write(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("")
        (folder / "b").write_text("")

    write_directory(tmp_path / "d", write)
    before = events[: events.index("rename")]
    assert sorted(before) == ["a", "b", "d", "sub"]
    assert events[-1] == tmp_path.name


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
    dead = tmp_path / ".ntkflow-0123456789abcdef.tmp"
    dead.mkdir()
    (dead / "half").write_text("")

    def write(folder):
        # A neighbor finishes its own file while this directory is being written.
        write_text(tmp_path / "neighbor.txt", "done")
        (folder / "a").write_text("")

    write_directory(tmp_path / "d", write)
    assert names(tmp_path) == ["d", "neighbor.txt"]


def test_without_exchange_a_cut_replacement_is_found_and_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(_publish, "_exchange", lambda first, second: False)
    path = tmp_path / "d"

    def publish(name):
        write_directory(path, lambda folder: (folder / name).write_text(""))

    publish("one")
    publish("two")
    assert names(tmp_path) == ["d"]

    # Killed between its two renames: the old directory stands aside.
    rename, calls = os.rename, []

    def killed(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            publish("three")
    assert not path.exists()
    assert names(find_directory(path)) == ["two"]

    publish("four")
    assert find_directory(path) == path
    assert names(path) == ["four"]
    assert names(tmp_path) == ["d"]


def test_the_current_directory_needs_no_name():
    assert find_directory(".") == Path()


def test_writers_side_by_side_do_not_take_each_other_for_dead(tmp_path):
    def publish(index):
        for count in range(100):
            write_text(tmp_path / f"{index}.txt", str(count))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))
    assert names(tmp_path) == [f"{index}.txt" for index in range(4)]
    assert {file.read_text() for file in tmp_path.iterdir()} == {"99"}
