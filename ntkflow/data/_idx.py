"""The IDX format, in which MNIST and its relatives are published.

Two zero bytes, a byte for the type of the numbers, a byte for how many axes there are;
the length of each axis as four bytes; then the numbers. Everything is big-endian.

Source: LeCun, Cortes and Burges (1998), The MNIST database, "File formats".
"""

import math
import struct

import numpy as np

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(content: bytes) -> bool:
    """Whether a file starts as IDX files do.

    Args:
        content: Its bytes.

    Returns:
        Whether the first three bytes are two zeros and a known type.
    """
    return len(content) > 2 and content[:2] == b"\0\0" and content[2] in _TYPES


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Reads an array from the bytes of an IDX file.

    Verified by: tests/data/test_files.py::test_idx_bytes_built_by_hand_are_read

    Args:
        content: The bytes, decompressed, for which `is_idx` holds.
        name: What to call the file in errors.

    Returns:
        The array, in the byte order of the machine.

    Raises:
        ValueError: If there are fewer or more bytes than the header promises.
    """
    axes = content[3] if len(content) > 3 else 1
    start = 4 + 4 * axes
    dtype = np.dtype(_TYPES[content[2]])
    complete = len(content) >= start
    shape = struct.unpack(f">{axes}I", content[4:start]) if complete else ()
    size = start + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        expected = f"{size} for an array of shape {shape}" if complete else "a header"
        raise ValueError(
            f"{name} holds {len(content)} bytes; as an IDX file it should hold "
            f"{expected}. It was cut short or altered: copy or download it again."
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
