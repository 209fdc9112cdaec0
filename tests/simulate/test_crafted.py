"""Runs and checkpoints made to do harm: each is one error, before anything is run."""

import json
import os
import shutil
import struct
import tracemalloc
from pathlib import Path

import numcodecs
import numpy as np
import pytest

from ntkflow.flows import Gradient
from ntkflow.simulate import Trajectory, log_times, simulate
from ntkflow.storage import Store
from tests.simulate.problems import tiny

TIMES = log_times(1e-2, 1, 3)
PICKLE = {"id": "pickle", "protocol": 5}
SETTINGS = {"flows": [Gradient()], "measures": [], "rtol": 1e-2, "progress": False}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crafted")
    run = simulate(tiny(), TIMES, checkpoint=folder / "checkpoint", **SETTINGS)
    run.save(folder / "run")
    return folder


def changed(array: Path, **change: object) -> None:
    meta = json.loads((array / ".zarray").read_text())
    (array / ".zarray").write_text(json.dumps(meta | change))


def codec(run: Path) -> None:
    changed(run / "f_train", compressor=PICKLE)


def codec_of_parameters(run: Path) -> None:
    changed(run / "params" / "leaf1", compressor=PICKLE)


def array_filter(run: Path) -> None:
    changed(run / "flow", filters=[PICKLE])


def objects(run: Path) -> None:
    changed(run / "flow", dtype="|O", filters=[{"id": "vlen-utf8"}])


def other_codec(run: Path) -> None:
    changed(run / "f_train", compressor={"id": "zstd", "level": 0})


def bomb_of_a_chunk(run: Path) -> None:
    (chunk,) = (run / "f_train").glob("[0-9]*")
    blosc = numcodecs.Blosc("zstd")
    chunk.write_bytes(bytes(blosc.encode(np.zeros(10**8))))
    assert chunk.stat().st_size < 400_000


def bomb_of_a_shape(run: Path) -> None:
    changed(run / "f_train", shape=[1, 3, 10**7, 2], chunks=[1, 3, 10**7, 2])


def absent_chunks(run: Path) -> None:
    changed(run / "f_train", shape=[1, 3, 10**7, 2], chunks=[1, 3, 1, 1])


def wrong_header(run: Path) -> None:
    (chunk,) = (run / "f_train").glob("[0-9]*")
    content = bytearray(chunk.read_bytes())
    content[4:8] = struct.pack("<I", 1 << 31)
    chunk.write_bytes(content)


def long_plain_chunk(run: Path) -> None:
    changed(run / "f_train", compressor=None)


def consolidated(run: Path) -> None:
    meta = json.loads((run / "f_train" / ".zarray").read_text())
    listed = {"f_train/.zarray": meta | {"compressor": PICKLE}}
    (run / ".zmetadata").write_text(json.dumps({"metadata": listed}))


def format_3(run: Path) -> None:
    (run / "f_train" / "zarr.json").write_text('{"zarr_format": 3}')


def linked_chunk(run: Path) -> None:
    (chunk,) = (run / "f_train").glob("[0-9]*")
    chunk.unlink()
    chunk.symlink_to("/dev/zero")


def pipe(run: Path) -> None:
    (chunk,) = (run / "f_train").glob("[0-9]*")
    chunk.unlink()
    os.mkfifo(chunk)


def attributes_of_a_list(run: Path) -> None:
    (run / ".zattrs").write_text("[1]")


def attributes_without_end(run: Path) -> None:
    (run / ".zattrs").write_text("[" * 200_000)


def run_of_text(run: Path) -> None:
    attrs = json.loads((run / ".zattrs").read_text())
    (run / ".zattrs").write_text(json.dumps(attrs | {"ntkflow_run": "none"}))


def unknown_reason(run: Path) -> None:
    attrs = json.loads((run / ".zattrs").read_text())
    attrs["ntkflow_run"]["reason"] = 99
    (run / ".zattrs").write_text(json.dumps(attrs))


CRAFTED = [
    (codec, "compressor of f_train is 'pickle'"),
    (codec_of_parameters, "compressor of params/leaf1 is 'pickle'"),
    (array_filter, "filters of flow"),
    (objects, "of flow"),
    (other_codec, "compressor of f_train is 'zstd'"),
    (bomb_of_a_chunk, "makes 800,000,000 bytes of a chunk"),
    (bomb_of_a_shape, "f_train"),
    (absent_chunks, "20,000,000 chunks"),
    (wrong_header, "makes 2,147,483,648 bytes of a chunk"),
    (long_plain_chunk, "bytes of a chunk that is declared as"),
    (consolidated, "compressor of f_train/.zarray in .* is 'pickle'"),
    (format_3, "zarr.json is of zarr's format 3"),
    (linked_chunk, "is a link or a device"),
    (pipe, "is a link or a device"),
    (attributes_of_a_list, "list"),
    (attributes_without_end, "recursion"),
    (run_of_text, "indices"),
    (unknown_reason, "99 is not a valid Reason"),
]


@pytest.mark.parametrize(
    ("craft", "message"), CRAFTED, ids=lambda c: getattr(c, "__name__", "")
)
def test_a_crafted_run_is_refused(saved, tmp_path, craft, message):
    run = tmp_path / "run"
    shutil.copytree(saved / "run", run)
    assert Trajectory.load(run).dataset.sizes["time"] == len(TIMES)
    craft(run)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"The run at {run} cannot.*{message}"):
        Trajectory.load(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26


def test_a_link_to_a_crafted_array_is_not_followed(saved, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(saved / "run", run)
    shutil.move(run / "f_train", elsewhere)
    changed(elsewhere, compressor=PICKLE)
    (run / "f_train").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="f_train is a link or a device"):
        Trajectory.load(run)


def test_absent_chunks_of_gigabytes_are_refused(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved / "run", run)
    for chunk in (run / "params" / "leaf0").glob("[0-9]*"):
        chunk.unlink()
    changed(run / "params" / "leaf0", shape=[3, 10**8], chunks=[3, 10**5])
    with pytest.raises(ValueError, match="more than 100 times as many"):
        Trajectory.load(run)


def test_text_as_objects_is_saved_as_text(saved, tmp_path):
    run = Trajectory.load(saved / "run")
    names = np.asarray(run.dataset["flow"].values, object)
    other = Trajectory(
        run.dataset.assign_coords(flow=names), run.reason, run.stats, run.params
    )
    other.save(tmp_path / "run")
    np.testing.assert_array_equal(
        Trajectory.load(tmp_path / "run").dataset["flow"], run.dataset["flow"]
    )


def rewritten(store: Store, name: str, arrays: dict, attrs: dict) -> None:
    """A part with the checksum it should have, whatever it holds."""
    old, kept = store.read(name)
    store.write(name, {**old, **arrays}, {**kept, **attrs})


def description(store: Store, **change: object) -> dict[str, str]:
    known = json.loads(store.read("run")[1]["description"])
    return {"description": json.dumps(known | change)}


CHECKPOINTS = {
    "no description": lambda s: s.write("run", {}, {}),
    "a description of a list": lambda s: rewritten(s, "run", {}, {"description": "[]"}),
    "members without end": lambda s: rewritten(
        s, "run", {}, description(s, lanes=10**15)
    ),
    "solves without end": lambda s: rewritten(
        s, "run", {}, description(s, solves=10**15)
    ),
    "solves of text": lambda s: rewritten(s, "run", {}, description(s, solves="1")),
    "no times": lambda s: rewritten(s, "run", {"ts": {}}, {}),
    "no records": lambda s: s.write("records-00-1-0000-00000000", {}),
    "records without axes": lambda s: s.write(
        "records-00-1-0000-00000000", {"f_train/gradient": np.array(1.0)}
    ),
    "records that are groups": lambda s: s.write(
        "records-00-1-0000-00000000", {"f_train": {"a": np.ones(1)}}
    ),
    "a state of nothing": lambda s: s.write("state-00-1", {}),
    "a reason that is none": lambda s: rewritten(
        s, "state-00-1", {"tally": {"code": np.array([77])}}, {}
    ),
    "statistics of a list": lambda s: rewritten(s, "state-00-1", {}, {"stats": [1]}),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_crafted_checkpoint_is_refused(saved, tmp_path, name):
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved / "checkpoint", folder)
    CHECKPOINTS[name](Store(folder))
    with pytest.raises(ValueError, match="cannot be read"):
        Trajectory.load(folder)


@pytest.mark.parametrize(
    "name", ["no records", "records without axes", "a state of nothing"]
)
def test_a_crafted_checkpoint_is_not_resumed(saved, tmp_path, name):
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved / "checkpoint", folder)
    CHECKPOINTS[name](Store(folder))
    with pytest.raises(ValueError, match="cannot be read"):
        simulate(tiny(), TIMES, checkpoint=folder, resume=True, **SETTINGS)
