"""What stored arrays declare, checked before a byte of them is decoded.

The metadata of a zarr array names its codecs, and a codec may run code (pickle), make
objects, or turn a small file into all the memory there is. So only what this library
writes is read: numbers and text of fixed width, in the older format of zarr, stored as
they are or compressed by blosc, and never more of them than the file gives reason for.
"""

import json
import math
import os
import re
import stat
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

_KEYS: Final = frozenset({
    "chunks", "compressor", "dimension_separator", "dtype", "fill_value", "filters",
    "order", "shape", "zarr_format",
})  # fmt: skip
_SIZES: Final = {
    "b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16),
}  # fmt: skip
"""Bytes of a number, by the letter of its kind; text ("U") is of any width."""

_DTYPE: Final = re.compile(r"[<>|]([biufcU])(\d{1,9})")
_CHUNK: Final = re.compile(r"\d+(\.\d+)*")
_BLOSC_HEADER: Final = 16
_MAX_AXES: Final = 32
_MAX_CHUNKS: Final = 100_000
"""More of them keep a reader busy, though none may be there."""

_PLENTY: Final = 1 << 28
_MAX_GROWTH: Final = 100
"""Runs and images grow twofold to twentyfold; a bomb grows a thousandfold."""


class Declared(NamedTuple):
    """What the metadata of an array says.

    Attributes:
        shape: Its shape.
        chunks: The shape of a chunk.
        dtype: Its dtype.
        compressed: Whether chunks are compressed, by blosc.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    compressed: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk in memory."""
        return math.prod(self.chunks) * self.dtype.itemsize


def check_growth(stored: int, declared: int) -> None:
    """Refuses what would take far more memory than it takes on the disk.

    Verified by: tests/storage/test_crafted.py::test_little_does_not_become_much

    Args:
        stored: Bytes on the disk.
        declared: Bytes in memory.

    Raises:
        ValueError: If it grows more than a hundredfold, beyond 256 MiB.
    """
    if declared > max(_PLENTY, _MAX_GROWTH * stored):
        raise ValueError(
            f"{stored:,} bytes of it declare {declared:,} bytes of numbers, more than "
            f"{_MAX_GROWTH} times as many"
        )


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Reads metadata or attributes.

    Args:
        content: The bytes of a JSON file.
        name: What to call it in errors.

    Returns:
        What it holds.

    Raises:
        ValueError: If that is no mapping.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds no mapping")
    return found


def parse_array(content: bytes, name: str) -> Declared:
    """Reads the metadata of an array, and refuses what needs more than numbers.

    Args:
        content: The bytes of a `.zarray` file.
        name: What to call the array in errors.

    Returns:
        What it declares.

    Raises:
        ValueError: If this library would not have written it.
    """  # ruff: ignore[docstring-extraneous-exception]
    return declared_by(parse_json(content, f"the metadata of {name}"), name)


def declared_by(meta: Any, name: str) -> Declared:
    """The same of metadata that are parsed.

    Args:
        meta: The metadata.
        name: What to call the array in errors.

    Returns:
        What they declare.

    Raises:
        ValueError: If this library would not have written them.
    """
    if not isinstance(meta, dict):
        raise ValueError(f"the metadata of {name} hold no mapping")
    _expect(name, "zarr_format", meta.get("zarr_format"), "2", (2,))
    for key in meta.keys() - _KEYS:
        raise ValueError(f"the metadata of {name} have the unknown key {key!r}")
    _expect(name, "filters", meta.get("filters"), "none", (None, []))
    _expect(name, "order", meta.get("order"), "'C'", ("C",))
    _expect(name, "separator", meta.get("dimension_separator", "."), "'.'", (".",))
    compressor = meta.get("compressor")
    kind = compressor.get("id") if isinstance(compressor, dict) else compressor
    _expect(name, "compressor", kind, "none or 'blosc'", (None, "blosc"))
    shape = _lengths(name, "shape", meta.get("shape"))
    chunks = _lengths(name, "chunks", meta.get("chunks"))
    if len(shape) != len(chunks):
        raise ValueError(f"{name} has the shape {shape} and chunks of {chunks}")
    dtype = _dtype(name, meta.get("dtype"))
    declared = Declared(shape, chunks, dtype, kind is not None)
    if declared.nbytes > 0:
        _check_grid(name, declared)
    return declared


def check_arrays(folder: Path) -> None:
    """Checks every array below a directory before zarr opens it.

    Verified by: tests/simulate/test_crafted.py::test_a_crafted_run_is_refused

    Args:
        folder: The directory of a zarr group.

    Raises:
        ValueError: If it holds links, metadata that this library does not write, or
            chunks of other sizes than declared.
    """
    stored = declared = 0
    for at, folders, files in os.walk(folder):
        here = Path(at)
        for entry in [*folders, *files]:
            stored += _size(here / entry)
        if "zarr.json" in files:
            raise ValueError(
                f"{here / 'zarr.json'} is of zarr's format 3; expected format 2"
            )
        if ".zmetadata" in files:
            _check_consolidated(here / ".zmetadata")
        if ".zarray" in files:
            name = here.relative_to(folder).as_posix()
            array = parse_array((here / ".zarray").read_bytes(), name)
            for chunk in filter(_CHUNK.fullmatch, files):
                _check_chunk(here / chunk, array)
            declared += array.nbytes
    check_growth(stored, declared)


def _expect(name: str, what: str, got: Any, expected: str, allowed: tuple) -> None:
    if not any(type(got) is type(one) and got == one for one in allowed):
        raise ValueError(f"the {what} of {name} is {got!r:.80}; expected {expected}")


def _lengths(name: str, what: str, got: Any) -> tuple[int, ...]:
    fits = isinstance(got, list) and len(got) <= _MAX_AXES
    if not fits or not all(type(n) is int and 0 <= n < 1 << 62 for n in got):
        raise ValueError(f"the {what} of {name} is {got!r:.80}; expected whole numbers")
    return tuple(got)


def _dtype(name: str, got: Any) -> np.dtype:
    found = _DTYPE.fullmatch(got) if isinstance(got, str) else None
    if found is not None:
        kind, size = found[1], int(found[2])
        if size in _SIZES.get(kind, ()) or (kind == "U" and size > 0):
            return np.dtype(found[0])
    raise ValueError(
        f"the dtype of {name} is {got!r:.80}; expected numbers or text of fixed width"
    )


def _check_grid(name: str, declared: Declared) -> None:
    pairs = list(zip(declared.shape, declared.chunks, strict=True))
    if any(chunk == 0 or chunk > size for size, chunk in pairs):
        raise ValueError(
            f"{name} has the shape {declared.shape} and chunks of {declared.chunks}"
        )
    number = math.prod(-(-size // chunk) for size, chunk in pairs)
    if number > _MAX_CHUNKS:
        raise ValueError(f"{name} has {number:,} chunks; expected {_MAX_CHUNKS:,}")


def _size(path: Path) -> int:
    status = os.lstat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ValueError(
            f"{path} is a link or a device; expected files and folders alone. Copies "
            "instead of links are made by cp -rL"
        )
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _check_consolidated(path: Path) -> None:
    found = parse_json(path.read_bytes(), str(path)).get("metadata")
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no mapping")
    for key, meta in found.items():
        if key.rpartition("/")[2] == ".zarray":
            declared_by(meta, f"{key} in {path}")


def _check_chunk(path: Path, array: Declared) -> None:
    size = path.stat().st_size
    if array.compressed:
        with open(path, "rb") as file:
            header = file.read(_BLOSC_HEADER)
        if len(header) < _BLOSC_HEADER:
            raise ValueError(f"{path} is cut short")
        size, _, compressed = struct.unpack("<III", header[4:])
        if compressed != path.stat().st_size:
            raise ValueError(f"{path} is cut short, or longer than it says")
    if size != array.chunk_bytes:
        raise ValueError(
            f"{path} makes {size:,} bytes of a chunk that is declared as "
            f"{array.chunk_bytes:,}"
        )
