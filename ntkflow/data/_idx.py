"""The IDX format, in which MNIST and its relatives are published.

Two zero bytes, a byte for the type of the numbers, a byte for how many axes there are;
the length of each axis as four bytes; then the numbers. Everything is big-endian.

Source: LeCun, Cortes and Burges (1998), The MNIST database, "File formats".
"""

import math
import struct

import numpy as np

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class IDXError(ValueError):
    """A file is no IDX file, or not a whole one."""


def is_idx(content: bytes) -> bool:
    """Whether a file starts as IDX files do.

    Args:
        content: Its bytes.

    Returns:
        Whether the first three bytes are two zeros and a known type.
    """
    return len(content) > 2 and content[:2] == b"\0\0" and content[2] in _TYPES


HEADER = 4 + 4 * 255
"""The most bytes that a header can have."""

_MAX_AXES = 32


def size_of_idx(head: bytes, name: str) -> int:
    """How many bytes an IDX file should have, as its header tells.

    Args:
        head: The first bytes, at least those of the header if there are so many; for
            which `is_idx` holds.
        name: What to call the file in errors.

    Returns:
        The number, header included.

    Raises:
        IDXError: If the header is cut short, or tells of no array.
    """  # ruff: ignore[docstring-extraneous-exception]
    return _header(head, name)[0]


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Reads an array from the bytes of an IDX file.

    Verified by: tests/data/test_files.py::test_idx_bytes_built_by_hand_are_read

    Args:
        content: The bytes, decompressed, for which `is_idx` holds.
        name: What to call the file in errors.

    Returns:
        The array, in the byte order of the machine.

    Raises:
        IDXError: If there are fewer or more bytes than the header promises.
    """  # ruff: ignore[docstring-extraneous-exception, docstring-missing-exception]
    size, shape, dtype = _header(content, name)
    if len(content) != size:
        raise _wrong(name, len(content), f"{size} for an array of shape {shape}")
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    start = size - math.prod(shape) * dtype.itemsize
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def _header(content: bytes, name: str) -> tuple[int, tuple[int, ...], np.dtype]:
    """Size of the whole file, shape and dtype."""
    axes = content[3] if len(content) > 3 else 1
    start = 4 + 4 * axes
    if len(content) < start:
        raise _wrong(name, len(content), "a header")
    shape = struct.unpack(f">{axes}I", content[4:start])
    dtype = np.dtype(_TYPES[content[2]])
    # numpy has no array of more axes, nor one without numbers along 2⁶³ of them.
    sizes = math.prod(max(1, size) for size in shape) * dtype.itemsize
    if axes > _MAX_AXES or sizes >= 1 << 63:
        raise _wrong(
            name, len(content), f"an array, which {shape} is the shape of none"
        )
    return start + math.prod(shape) * dtype.itemsize, shape, dtype


def _wrong(name: str, size: int, expected: str) -> IDXError:
    return IDXError(
        f"{name} holds {size} bytes; as an IDX file it should hold {expected}. It was "
        "cut short or altered: copy or download it again."
    )
