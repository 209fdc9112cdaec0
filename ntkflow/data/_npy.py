"""One array of an `.npz` file, whose header is checked before its numbers are read.

`numpy.load` takes the memory that the header asks for, whatever the file holds.
"""

import math
import zipfile

import numpy as np
from numpy.lib import format as npy

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_MAX_AXES = 32


def read_npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Reads an array of numbers or text.

    Verified by: tests/data/test_crafted.py::test_a_crafted_npz_file_is_refused

    Args:
        archive: The archive.
        entry: The array's entry in it.

    Returns:
        The array.

    Raises:
        ValueError: If it is of objects, or the entry does not hold what its header
            declares.
    """
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(
                f"{entry.filename} is of version {version}; expected (1, 0) or (2, 0)"
            )
        shape, fortran, dtype = _READERS[version](file)
        if dtype.hasobject or dtype.kind == "V" or dtype.itemsize == 0:
            raise ValueError(
                f"{entry.filename} holds {dtype}; expected numbers or text, since "
                "objects would be loaded by running code (allow_pickle)"
            )
        declared = math.prod(shape) * dtype.itemsize
        if len(shape) > _MAX_AXES or declared != entry.file_size - file.tell():
            raise ValueError(
                f"{entry.filename} declares the shape {shape} of {dtype}, which is not "
                f"what its {entry.file_size:,} bytes hold"
            )
        numbers = np.frombuffer(file.read(), dtype)
    return numbers.reshape(shape, order="F" if fortran else "C").copy()
