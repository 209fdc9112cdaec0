"""Parts come back bit for bit, and nothing else is ever taken for a part."""

import hashlib
import os
import random
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from ntkflow.storage import CorruptPartError, Store

PAYLOAD_NANS = np.array(
    [0x7FF8000000000123, 0xFFF0000000000001, 0x7FF4000000000000], dtype=np.uint64
).view(np.float64)

ARRAYS = {
    "zero-d": np.array(3.5),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([[True, False], [False, False]]),
    "int8": np.array([-128, 127], np.int8),
    "uint64": np.array([2**64 - 1], np.uint64),
    "float16": np.array([1.5, np.inf], np.float16),
    "float32": np.array([np.finfo(np.float32).tiny / 2, -0.0], np.float32),
    "all chunks equal the fill value": np.full((2, 2), -0.0),
    "nan payloads": PAYLOAD_NANS,
    "complex": np.array([complex(-0.0, np.nan)]),
    "big endian": np.arange(3, dtype=">f8"),
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "bfloat16": np.array([1.0, -0.0, 3.0], jnp.bfloat16),
    "bfloat16 zero-d": np.array(2.0, jnp.bfloat16),
    "strings": np.array(["μ", "two"]),
}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "run" / "parts")


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_bit_for_bit(store, name):
    store.write("a", {"x": ARRAYS[name]})
    read, attrs = store.read("a")
    assert same_bits(read["x"], ARRAYS[name])
    assert read["x"].flags.writeable
    assert attrs == {}


def test_jax_arrays_come_back_as_numpy_arrays(store, key):
    x = jax.random.normal(key, (3,), jnp.bfloat16)
    store.write("a", {"x": x})
    (read,) = store.read("a")[0].values()
    assert isinstance(read, np.ndarray)
    assert same_bits(read, np.asarray(x))


def test_nested_mappings_and_awkward_names_come_back(store):
    one, two = np.ones(2), np.arange(3)
    arrays = {
        "layers": {"[0].weight": one, "0": two, "none": {}},
        "['a/b\\c']": one,
        "..": two,
        ".zarray": one,
        "%2E": two,
        "a.b": one,
        "__x": two,
        "λ₁ = 1": one,
    }
    store.write("a", arrays)
    read, _ = store.read("a")
    assert list(read) == sorted(arrays)
    assert list(read["layers"]) == ["0", "[0].weight", "none"]
    assert read["layers"]["none"] == {}
    assert same_bits(read["layers"]["[0].weight"], one)
    for name in arrays.keys() - {"layers"}:
        assert same_bits(read[name], arrays[name])


def test_attrs_come_back_as_json_holds_them(store):
    attrs = {
        "t": 0.1 + 0.2,
        "inf": float("inf"),
        "steps": 2**70,
        "on": True,
        "none": None,
        "flows": ["gradient", {"μ": [1, 2.5]}],
    }
    store.write("a", {}, {**attrs, "shape": (2, 3)})
    arrays, read = store.read("a")
    assert arrays == {}
    assert read == {**attrs, "shape": [2, 3]}


def test_a_part_is_an_ordinary_zarr_zip_store(store):
    store.write("a", {"x": np.arange(3), "g": {"y": np.ones(2)}}, {"t": 2})
    opened = ZipStore(store.path / "a.zarr.zip", mode="r")
    group = zarr.open_group(opened, mode="r")
    assert group.metadata.zarr_format == 2
    assert group.attrs["t"] == 2
    np.testing.assert_array_equal(group["x"][...], np.arange(3))
    np.testing.assert_array_equal(group["g/y"][...], np.ones(2))
    opened.close()


def test_a_part_ends_with_the_digest_of_all_before(store):
    store.write("a", {"x": np.arange(1000)})
    content = (store.path / "a.zarr.zip").read_bytes()
    with zipfile.ZipFile(store.path / "a.zarr.zip") as archive:
        assert archive.comment == b"sha256:" + content[-64:]
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()


def test_names_are_sorted_and_foreign_files_ignored(store):
    assert store.names() == []
    for name in ("000010", "000009", "last.2"):
        store.write(name, {"x": np.ones(1)})
    for foreign in (".hidden.zarr.zip", "other.txt", "a b.zarr.zip"):
        (store.path / foreign).write_text("")
    (store.path / "folder.zarr.zip").mkdir()
    assert store.names() == ["000009", "000010", "last.2"]


def test_what_killed_writers_left_is_nothing(store):
    assert store.is_vacant()
    leftover = store.path / ".ntkflow-0123456789abcdef.tmp"
    leftover.mkdir(parents=True)
    (leftover / "part.zarr.zip").write_text("half")
    assert store.is_vacant()
    (store.path / "notes.txt").write_text("someone's")
    assert not store.is_vacant()


def test_a_later_part_replaces_an_earlier_one(store):
    store.write("a", {"x": np.ones(5)}, {"t": 0})
    store.write("a", {"y": np.zeros(2)}, {"t": 1})
    arrays, attrs = store.read("a")
    assert list(arrays) == ["y"]
    assert attrs == {"t": 1}
    assert [entry.name for entry in os.scandir(store.path)] == ["a.zarr.zip"]


def test_a_removed_part_is_gone(store):
    store.write("a", {})
    store.remove("a")
    assert store.names() == []
    for use in (store.read, store.remove):
        with pytest.raises(ValueError, match=r"Unknown part .* 'a'"):
            use("a")


def test_every_truncation_and_every_changed_byte_is_noticed(store):
    store.write("a", {"x": np.arange(50.0)}, {"t": 1})
    path = store.path / "a.zarr.zip"
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = [whole[:size] for size in (0, 1, 63, 64, 70, 71, len(whole) - 1)]
    damaged += [whole[: rng.randrange(len(whole))] for _ in range(20)]
    damaged += [whole + b"\0"]
    # Bytes of the data, the zip directory, the comment and the digest.
    for place in [*rng.sample(range(len(whole)), 60), *range(-90, 0, 5)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CorruptPartError, match=r"a\.zarr\.zip is cut.*Remove the"):
            store.read("a")
    path.write_bytes(whole)
    np.testing.assert_array_equal(store.read("a")[0]["x"], np.arange(50.0))


def test_a_zip_file_of_other_origin_is_refused(store):
    store.path.mkdir(parents=True)
    with zipfile.ZipFile(store.path / "a.zarr.zip", "w") as archive:
        archive.writestr("x", "y" * 200)
    with pytest.raises(CorruptPartError):
        store.read("a")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([{}], dtype=object)}, r"arrays\['x'\] has dtype object"),
        ({"g": {"x": np.zeros(2, "M8[s]")}}, r"\['g'\]\['x'\] has dtype datetime64"),
        ({"x": np.zeros(2, [("a", int)])}, "has dtype"),
        ({"x": np.zeros(2, np.longdouble)}, "has dtype"),
        ({"x": [1.0, 2.0]}, "is a list; expected an array"),
        ({"x": 1.0}, "is a float; expected an array"),
        ({"": np.ones(1)}, "expected a name"),
        ({"g": {3: np.ones(1)}}, "expected a name"),
    ],
)
def test_arrays_that_cannot_be_stored_leave_the_old_part(store, arrays, message):
    store.write("a", {"old": np.ones(1)})
    with pytest.raises(ValueError, match=message):
        store.write("a", arrays)
    assert list(store.read("a")[0]) == ["old"]
    assert store.names() == ["a"]


def test_random_keys_are_refused_with_the_remedy(store, key):
    with pytest.raises(ValueError, match="key_data"):
        store.write("a", {"key": key})


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"x": np.ones(2)}, r"attrs\['x'\] is a ndarray"),
        ({"x": [1, {"y": np.float32(1)}]}, r"attrs\['x'\]\[1\]\['y'\] is a float32"),
        ({"x": {1: 2}}, r"attrs\['x'\] has the key 1"),
    ],
)
def test_attrs_that_json_cannot_hold_are_refused(store, attrs, message):
    with pytest.raises(ValueError, match=message):
        store.write("a", {}, attrs)


@pytest.mark.parametrize("name", ["", ".a", "a/b", "../a", "-a", "a b"])
def test_names_that_cannot_be_files_are_refused(store, name):
    with pytest.raises(ValueError, match="cannot name a part"):
        store.write(name, {})
