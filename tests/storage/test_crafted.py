"""Files made to do harm, with the checksum they should have: each is one error."""

import hashlib
import io
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from ntkflow.storage import CorruptPartError, Store, check_growth

PLAIN = {
    "shape": [4],
    "chunks": [4],
    "dtype": "<f8",
    "fill_value": None,
    "order": "C",
    "filters": None,
    "dimension_separator": ".",
    "compressor": None,
    "zarr_format": 2,
}
DATA = np.arange(4.0).tobytes()
GROUP = b'{"zarr_format": 2}'


def entries(change: Mapping, data: bytes = DATA) -> dict[str, bytes]:
    """A part of one array, its metadata changed."""
    meta = json.dumps({**PLAIN, **change}).encode()
    return {".zgroup": GROUP, ".zattrs": b"{}", "x/.zarray": meta, "x/0": data}


def zipped(
    content: Mapping[str, bytes], method: int = zipfile.ZIP_STORED
) -> Callable[[], bytes]:
    def make() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in content.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return buffer.getvalue()

    return make


def overlapping() -> bytes:
    """Two thousand names for one megabyte."""
    content = zipped({".zgroup": GROUP, "x/0": bytes(1 << 20)})()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
    end = content.rindex(b"PK\5\6")
    entry = content[content.index(b"PK\1\2", start + 4) : end]
    directory = content[start:end] + entry * 2000
    tail = struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, 2002, 2002, len(directory), start, 0
    )
    return content[:start] + directory + tail


def twice() -> bytes:
    """An archive whose second entry has the name of the first."""
    content = zipped({".zgroup": GROUP, "x/0": DATA, "x/1": DATA[::-1]})()
    return content.replace(b"x/1", b"x/0")


PICKLE = {"id": "pickle", "protocol": 5}
CRAFTED = {
    "codec pickle": (zipped(entries({"compressor": PICKLE})), "compressor of x"),
    "filter pickle": (zipped(entries({"filters": [PICKLE]})), "filters of x"),
    "codec of a list": (zipped(entries({"compressor": [PICKLE]})), "compressor of x"),
    "json objects": (
        zipped(entries({"dtype": "|O", "filters": [{"id": "json2"}]})),
        "filters of x",
    ),
    "vlen-utf8": (
        zipped(entries({"dtype": "|O", "filters": [{"id": "vlen-utf8"}]})),
        "filters of x",
    ),
    "objects": (zipped(entries({"dtype": "|O"})), "dtype of x"),
    "bytes": (zipped(entries({"dtype": "|V8"})), "dtype of x"),
    "dates": (zipped(entries({"dtype": "<M8[s]"})), "dtype of x"),
    "records": (zipped(entries({"dtype": [["a", "|O"]]})), "dtype of x"),
    "text of no width": (
        zipped(entries({"dtype": "<U0", "shape": [2**40], "chunks": [2**40]}, b"")),
        "dtype of x",
    ),
    "compressed by blosc": (
        zipped(entries({"compressor": {"id": "blosc"}})),
        "is compressed",
    ),
    "a shape of terabytes": (
        zipped(entries({"shape": [2**40], "chunks": [2**40]})),
        "holds 32 bytes; declared are 8,796,093,022,208",
    ),
    "many missing chunks": (
        zipped(entries({"shape": [2**17], "chunks": [1]})),
        "has 131,072 chunks",
    ),
    "a missing chunk": (
        zipped({k: v for k, v in entries({}).items() if k != "x/0"}),
        "'x/0' is missing",
    ),
    "a negative shape": (zipped(entries({"shape": [-4]})), "shape of x"),
    "a shape of text": (zipped(entries({"shape": "4"})), "shape of x"),
    "a shape of bools": (zipped(entries({"shape": [True]})), "shape of x"),
    "too many axes": (zipped(entries({"shape": [1] * 65})), "shape of x"),
    "unequal axes": (zipped(entries({"shape": [2, 2]})), "chunks of"),
    "an order": (zipped(entries({"order": "Fortran"})), "order of x"),
    "an unknown key": (zipped(entries({"codecs": [PICKLE]})), "unknown key 'codecs'"),
    "format 3": (
        zipped({**entries({}), "zarr.json": b'{"zarr_format": 3}'}),
        "no array has 'zarr.json'",
    ),
    "consolidated": (
        zipped({**entries({}), ".zmetadata": b"{}"}),
        "no array has '.zmetadata'",
    ),
    "format 3 in format 2": (zipped(entries({"zarr_format": 3})), "zarr_format of x"),
    "a path upwards": (
        zipped({**entries({}), "../../evil/.zgroup": GROUP}),
        "cannot name",
    ),
    "a path from the root": (
        zipped({**entries({}), "/etc/.zgroup": GROUP}),
        "cannot name",
    ),
    "a foreign file": (zipped({**entries({}), "x/run.py": b""}), "no array has"),
    "a group twice": (
        zipped({**entries({}), "%78/.zgroup": GROUP}),
        "is there twice",
    ),
    "an array within an array": (
        zipped({**entries({}), "x/y/.zgroup": GROUP}),
        "lies in no group",
    ),
    "deep nesting": (
        zipped({".zgroup": GROUP, "/".join("a" * 5000) + "/.zgroup": GROUP}),
        "cannot name",
    ),
    "deep metadata": (
        zipped({**entries({}), "x/.zarray": b"[" * 200_000}),
        "metadata of x is no JSON",
    ),
    "metadata of a list": (
        zipped({**entries({}), "x/.zarray": b"[]"}),
        "metadata of x holds no mapping",
    ),
    "attributes of a list": (zipped({**entries({}), ".zattrs": b"[1]"}), "no mapping"),
    "a bomb in the zip": (
        zipped({**entries({}), "x/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "overlapping entries": (overlapping, "larger than the whole file"),
    "one name twice": (twice, "have one name"),
    "bfloat16 of floats": (
        zipped({**entries({}), "x/.zattrs": b'{"dtype": "bfloat16"}'}),
        "marked as bfloat16",
    ),
    "no zip": (lambda: b"no zip archive at all", "not a zip file"),
    "no group": (zipped({"x": b""}), "'.zgroup' is missing"),
}


def with_checksum(content: bytes) -> bytes:
    """A zip archive with the comment that a part ends with; or just the digits."""
    if content.startswith(b"PK"):
        content = content[:-2] + struct.pack("<H", 71)
    content += b"sha256:"
    return content + hashlib.sha256(content).hexdigest().encode()


@pytest.fixture
def store(tmp_path) -> Store:
    (tmp_path / "run").mkdir()
    return Store(tmp_path / "run")


def test_the_part_that_is_crafted_from_is_read(store):
    content = with_checksum(zipped(entries({}))())
    (store.path / "a.zarr.zip").write_bytes(content)
    arrays, attrs = store.read("a")
    np.testing.assert_array_equal(arrays["x"], np.arange(4.0))
    assert attrs == {}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_part_is_refused(store, name):
    make, message = CRAFTED[name]
    (store.path / "a.zarr.zip").write_bytes(with_checksum(make()))
    tracemalloc.start()
    with pytest.raises(CorruptPartError, match=rf"(?s)a\.zarr\.zip.*{message}"):
        store.read("a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26
    assert os.listdir(store.path) == ["a.zarr.zip"]


@pytest.mark.parametrize("key", sorted(PLAIN))
@pytest.mark.parametrize(
    "value", [None, -1, 10**40, 0.5, "", "|O", [], [[]], {}, {"id": "pickle"}, True]
)
def test_metadata_of_any_kind_make_one_error_or_the_array(store, key, value):
    content = with_checksum(zipped(entries({key: value}))())
    (store.path / "a.zarr.zip").write_bytes(content)
    try:
        arrays, _ = store.read("a")
    except CorruptPartError:
        return
    assert key in {"fill_value", "filters", "compressor"}
    np.testing.assert_array_equal(arrays["x"], np.arange(4.0))


def test_little_does_not_become_much():
    check_growth(400_000, 1 << 28)
    check_growth(10**9, 10**11)
    for stored, declared in ((400_000, 800_000_000), (0, (1 << 28) + 1)):
        with pytest.raises(ValueError, match="more than 100 times as many"):
            check_growth(stored, declared)
