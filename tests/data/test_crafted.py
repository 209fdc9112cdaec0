"""Data files made to do harm: each is one error, and takes no memory to speak of."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import ntkflow.data as data


def idx(shape: tuple[int, ...], code: int = 0x08, content: bytes = b"") -> bytes:
    sizes = struct.pack(f">{len(shape)}I", *shape)
    return bytes([0, 0, code, len(shape)]) + sizes + content


LABELS = idx((4,), content=bytes([0, 1, 0, 1]))
MOST = 2**32 - 1

IDX = {
    "more than the header declares": gzip.compress(idx((4, 2), content=bytes(10**8))),
    "a header of terabytes": gzip.compress(idx((MOST, 2**10), content=bytes(8))),
    "a bomb with its header": gzip.compress(idx((4, 10**8), content=bytes(4 * 10**8))),
    "more than there is": idx((MOST, MOST), 0x0E, bytes(8)),
    "a shape beyond all numbers": idx((MOST,) * 200, content=bytes(8)),
    "too many axes": idx((1,) * 40, content=bytes(1)),
    "nothing, along many": idx((0, MOST, MOST, MOST)),
    "no axes": idx((), content=bytes(1)),
    "a header cut short": idx((4, 2))[:9],
    "an unknown type": bytes([0, 0, 0x07, 1]) + bytes(20),
    "two members": gzip.compress(idx((4, 2))) + gzip.compress(bytes(10**7)),
    "pickle": b"\x80\x05cos\nsystem\n(S'false'\ntR.",
}


def peak_of(read) -> int:
    tracemalloc.start()
    read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", IDX)
def test_a_crafted_idx_file_is_refused(tmp_path, name):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(IDX[name])
    labels.write_bytes(LABELS)

    def read():
        with pytest.raises(ValueError, match=r"images|x has shape|dtype"):
            data.from_file(images, labels)

    assert peak_of(read) < 1 << 26


def header(shape: tuple[int, ...], descr: str = "'<f8'") -> bytes:
    """The header of an .npy file that declares a shape."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def npz(x: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer, labels = io.BytesIO(), io.BytesIO()
    np.save(labels, np.array([0, 1, 0, 1]))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", labels.getvalue())
    return buffer.getvalue()


DATA = np.arange(8.0).tobytes()
NPZ = {
    "objects": npz(header((4,), "'|O'") + b"\x80\x05cos\nsystem\n(S'false'\ntR."),
    "records with objects": npz(header((4,), "[('a', '|O')]") + DATA),
    "raw bytes": npz(header((8,), "'|V8'") + DATA),
    "a shape of terabytes": npz(header((4, 2**40)) + DATA),
    "a negative shape": npz(header((-4, -2)) + DATA),
    "too many axes": npz(header((1,) * 70 + (8,)) + DATA),
    "a bomb": npz(header((4, 10**8), "'|i1'") + bytes(4 * 10**8), zipfile.ZIP_DEFLATED),
    "more than declared": npz(header((4, 2)) + bytes(10**7), zipfile.ZIP_DEFLATED),
    "less than declared": npz(header((4, 2)) + DATA[:-1]),
    "a header that calls": npz(header((4, 2), "__import__('os').abort()") + DATA),
    "a deep header": npz(header((4, 2), "(" * 5000) + DATA),
    "a long header": npz(header((4, 2), "'<f8'" + " " * 60_000) + DATA),
    "no header": npz(DATA),
    "another version": npz(b"\x93NUMPY\3\0" + DATA),
    "encrypted": npz(header((4, 2)) + DATA).replace(
        b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
    ),
}


@pytest.mark.parametrize("name", NPZ)
def test_a_crafted_npz_file_is_refused(tmp_path, name):
    path = tmp_path / "d.npz"
    path.write_bytes(NPZ[name])

    def read():
        with pytest.raises(ValueError, match=r"d\.npz cannot be read as an .npz file"):
            data.from_file(path)

    assert peak_of(read) < 1 << 26


def test_arrays_of_every_layout_are_read(tmp_path):
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3)).astype(">f4")
    np.savez_compressed(tmp_path / "d.npz", x=x, y=np.array(["a", "b"] * 2))
    read = data.from_file(tmp_path / "d.npz", scaling="none")
    np.testing.assert_array_equal(read.x_train, x)
    assert read.classes == ("a", "b")
