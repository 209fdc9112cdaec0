"""Users' files are read to the bit, or refused in one clear sentence."""

import gzip
import struct

import numpy as np
import pytest

import ntkflow.data as data
from ntkflow.data._idx import is_idx, parse_idx


def idx_bytes(code: int, letter: str, shape: tuple[int, ...], values: list) -> bytes:
    """An IDX file put together from its description, without numpy."""
    header = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + b"".join(struct.pack(f">{letter}", value) for value in values)


@pytest.mark.parametrize(
    ("code", "letter", "dtype", "values"),
    [
        (0x08, "B", np.uint8, [0, 1, 127, 128, 254, 255]),
        (0x09, "b", np.int8, [0, 1, 127, -128, -1, -2]),
        (0x0B, "h", np.int16, [0, 1, 258, -32768, 32767, -2]),
        (0x0C, "i", np.int32, [0, 1, 66051, -(2**31), 2**31 - 1, -2]),
        (0x0D, "f", np.float32, [0.0, 1.5, -0.25, 2.0**-126, 2.0**127, -1.0]),
        (0x0E, "d", np.float64, [0.0, 0.1, -0.25, 2.0**-1022, 1e308, -1.0]),
    ],
)
def test_idx_bytes_built_by_hand_are_read(code, letter, dtype, values):
    for shape in ((6,), (2, 3), (1, 3, 2)):
        content = idx_bytes(code, letter, shape, values)
        assert is_idx(content)
        read = parse_idx(content, "file")
        assert read.dtype == dtype
        assert read.shape == shape
        assert read.ravel().tolist() == values


PIXELS = [(7 * i) % 256 for i in range(6 * 4)]
IMAGES = idx_bytes(0x08, "B", (6, 2, 2), PIXELS)
LABELS = idx_bytes(0x08, "B", (6,), [0, 1, 0, 1, 0, 1])


@pytest.fixture
def idx(tmp_path):
    paths = tmp_path / "images-idx3-ubyte", tmp_path / "labels-idx1-ubyte.gz"
    paths[0].write_bytes(IMAGES)
    paths[1].write_bytes(gzip.compress(LABELS))
    return paths


def test_idx_files_make_a_data_set(idx):
    rows = data.from_file(*idx, scaling="none")
    np.testing.assert_array_equal(rows.x_train, np.reshape(PIXELS, (6, 4)))
    np.testing.assert_array_equal(rows.labels_train, [0, 1, 0, 1, 0, 1])
    assert rows.name == "images-idx3-ubyte"
    images = data.from_file(*idx, test=idx[0], test_labels=idx[1], flatten=False)
    assert images.x_train.shape == images.x_test.shape == (6, 1, 2, 2)
    split = data.from_file(*idx, n_train=4, n_test=2, targets="regression")
    assert split.y_train.shape == (4, 1)
    assert split.y_test.shape == (2, 1)


def test_a_file_gives_what_its_arrays_give(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 3
    np.savez_compressed(tmp_path / "d.npz", x=x, y=y)
    options = {"n_train": 20, "n_test": 5, "seed": 3, "targets": "centered"}
    from_file = data.from_file(tmp_path / "d.npz", **options)
    from_arrays = data.from_arrays(x, y, **options)
    for name in ("x_train", "y_train", "x_test", "y_test", "labels_test", "x_mean"):
        np.testing.assert_array_equal(
            getattr(from_file, name), getattr(from_arrays, name)
        )


def test_names_choose_the_arrays_of_an_npz_file(tmp_path):
    path = tmp_path / "d.npz"
    x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1] * 3)
    np.savez(path, x=x, y=y, x_test=x + 1, y_test=y, a=x + 2, b=1 - y)
    plain = data.from_file(path, scaling="none")
    np.testing.assert_array_equal(plain.x_test, x + 1)
    chosen = data.from_file(path, names=("a", "b"), scaling="none")
    np.testing.assert_array_equal(chosen.x_train, x + 2)
    np.testing.assert_array_equal(chosen.labels_train, 1 - y)
    assert chosen.x_test is None
    four = data.from_file(path, names=("a", "b", "x", "y"), scaling="none")
    np.testing.assert_array_equal(four.x_test, x)
    two = data.from_file(path, names=("a", "b"), test=path, scaling="none")
    np.testing.assert_array_equal(two.x_test, x + 2)


def test_every_truncated_file_is_one_clear_error(tmp_path, idx):
    np.savez(tmp_path / "d.npz", x=np.ones((6, 4)), y=np.arange(6) % 2)
    files = [(tmp_path / "d.npz",), idx, (tmp_path / "images.gz", idx[1])]
    (tmp_path / "images.gz").write_bytes(gzip.compress(IMAGES))
    for paths in files:
        whole = paths[0].read_bytes()
        for size in range(0, len(whole), max(1, len(whole) // 40)):
            paths[0].write_bytes(whole[:size])
            with pytest.raises(ValueError, match=f"{paths[0].name}.*(again|expected)"):
                data.from_file(*paths)
        paths[0].write_bytes(whole)
        assert data.from_file(*paths).x_train.shape == (6, 4)


def test_bytes_beyond_the_end_are_refused(idx):
    idx[0].write_bytes(IMAGES + b"\0")
    with pytest.raises(ValueError, match=r"holds 41 bytes.*should hold 40"):
        data.from_file(*idx)


def test_files_that_do_not_fit_are_refused(tmp_path, idx):
    npz, other = tmp_path / "d.npz", tmp_path / "notes.txt"
    np.savez(npz, x=np.ones((6, 4)), labels=np.arange(6))
    other.write_text("x,y\n1,2\n")
    cases = [
        ((npz,), {}, r"Unknown array in .*d\.npz 'y'.* 'labels', 'x'"),
        ((npz,), {"names": ("x", "label")}, "Did you mean 'labels'"),
        ((npz,), {"names": ("x",)}, "expected two names"),
        ((npz, idx[1]), {}, "expected no second file"),
        ((idx[0],), {}, "expected a second file with the targets"),
        (idx, {"names": ("x", "y")}, "have no meaning"),
        (idx, {"test_labels": idx[1]}, "without test"),
        ((other, idx[1]), {}, "notes.txt starts with the bytes 78 2c 79 0a; expected"),
    ]
    for paths, options, message in cases:
        with pytest.raises(ValueError, match=message):
            data.from_file(*paths, **options)
    np.savez(npz, x=np.ones((6, 4)), y=np.ones(6), x_test=np.ones(1), y_test=np.ones(1))
    with pytest.raises(ValueError, match="holds a test part, and test="):
        data.from_file(npz, test=npz)


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([[{}], [{}]], dtype=object), y=np.arange(2))
    with pytest.raises(ValueError, match="allow_pickle"):
        data.from_file(tmp_path / "d.npz")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    x = np.ones((4, 2))
    x[3, 0] = np.inf
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(4) % 2)
    with pytest.raises(ValueError, match=r"not finite, the first at index \(3, 0\)"):
        data.from_file(tmp_path / "d.npz")
