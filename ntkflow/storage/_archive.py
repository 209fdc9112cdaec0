"""One part as one file: a zip archive that holds a zarr group and its own checksum.

The file is an ordinary zarr `ZipStore` in format 2 (format 3 warns on strings), so
other tools open it. Its zip comment, the last bytes of the file, reads `sha256:` and 64
hex digits: the digest of all bytes before those digits. A checksum inside the file
comes and goes with it in the one rename that publishes it; a second file could not.

Arrays are stored uncompressed, a chunk each: what is kept here, floats of trained
networks, hardly shrinks, and speed counts when a run writes at every segment. So they
are read without any codec: a file that needs one is none of ours, and anybody can make
a checksum.
"""

import hashlib
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import jax
import jax.numpy as jnp
import numpy as np
import zarr
from zarr.storage import ZipStore

from ._corrupt import CorruptPartError
from ._declared import parse_array, parse_json

_LABEL = b"sha256:"
_DIGITS = 64
_BFLOAT16 = np.dtype(jnp.bfloat16)
_FLOATS = tuple(map(np.dtype, ("f2", "f4", "f8", "c8", "c16")))
_MAX_DEPTH = 32
_FAULTS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
"""What a crafted zip archive may raise."""


def write_archive(
    path: Path, arrays: Mapping[str, Any], attrs: Mapping[str, Any]
) -> None:
    """Writes arrays and attributes to a new file, which ends with its checksum.

    Args:
        path: The file; not there yet.
        arrays: Arrays by name, possibly in nested mappings.
        attrs: What JSON can hold; tuples come back as lists.

    Raises:
        ValueError: If something in `arrays` or `attrs` cannot be stored.
    """  # ruff: ignore[docstring-extraneous-exception]: raised by the checks
    _check_attrs("attrs", dict(attrs))
    prepared = _prepared(arrays, "arrays")
    store = ZipStore(path, mode="w")
    try:
        root = zarr.create_group(store, zarr_format=2, attributes=dict(attrs))
        _write_members(root, prepared)
    finally:
        store.close()
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _LABEL + b"0" * _DIGITS
    with open(path, "r+b") as file:
        digest = _digest(file, os.path.getsize(path) - _DIGITS)
        file.seek(-_DIGITS, os.SEEK_END)
        file.write(digest)


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads what `write_archive` wrote, after checking that nothing has changed.

    Args:
        path: The file.

    Returns:
        The arrays, nested as they were written, names sorted; and the attributes.

    Raises:
        CorruptPartError: If the file is cut short or altered, or holds anything else
            than uncompressed numbers and text.

    Verified by: tests/storage/test_crafted.py::test_a_crafted_part_is_refused
    """
    # Checked and read through one open file: a part that is replaced meanwhile stays
    # readable here as it was.
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        end = max(size - _DIGITS - len(_LABEL), 0)
        file.seek(end)
        tail = file.read()
        if tail != _LABEL + _digest(file, size - _DIGITS):
            raise CorruptPartError(
                f"{path} is cut short or altered: its {size} bytes do not have the "
                "checksum they should end with. Remove the file; what it held has to "
                "be copied back or computed again."
            )
        try:
            return _read_zip(file, size)
        except _FAULTS as error:
            raise CorruptPartError(
                f"{path} has its checksum, but it is no part that ntkflow wrote: "
                f"{error}. Do not trust where it comes from; nothing of it was used."
            ) from error


def _digest(file: BinaryIO, length: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0:
        block = file.read(min(length, 1 << 20))
        digest.update(block)
        length -= len(block)
    return digest.hexdigest().encode()


def _prepared(arrays: Mapping[Any, Any], where: str) -> dict[str, Any]:
    # Everything is checked here, before the first byte is written.
    prepared: dict[str, Any] = {}
    for name, value in arrays.items():
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{where} has the key {name!r}; expected a name, a string that is not "
                "empty."
            )
        here = f"{where}[{name!r}]"
        if isinstance(value, Mapping):
            prepared[name] = _prepared(value, here)
        else:
            prepared[name] = _storable(value, here)
    return prepared


def _storable(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        raise ValueError(
            f"{where} is a {type(value).__name__}; expected an array. Numbers, strings "
            "and lists go into attrs."
        )
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"{where} is a random key; expected an array of numbers. Store "
            "jax.random.key_data(key), or flatten the tree with flatten_arrays."
        )
    array = np.asarray(value)
    plain = array.dtype.kind in "biuU" or array.dtype.newbyteorder("=") in _FLOATS
    if not plain and array.dtype != _BFLOAT16:
        raise ValueError(
            f"{where} has dtype {array.dtype}; expected booleans, integers, floats or "
            "complex numbers of at most 64 bits a part, bfloat16, or strings. Convert "
            "it with astype."
        )
    return array


def _write_members(group: zarr.Group, members: Mapping[str, Any]) -> None:
    for name, value in members.items():
        if isinstance(value, dict):
            _write_members(group.create_group(_quoted(name)), value)
        else:
            # zarr has no bfloat16: its 16 bits are stored as an integer, with a mark.
            half = value.dtype == _BFLOAT16
            stored = value.view(np.uint16) if half else value
            array = group.create_array(
                _quoted(name),
                shape=stored.shape,
                dtype=stored.dtype,
                chunks=tuple(max(1, size) for size in stored.shape),
                compressors=None,
                fill_value=None,
                attributes={"dtype": "bfloat16"} if half else None,
                # A chunk equal to the fill value would be left out, and -0.0 == 0.0.
                config={"write_empty_chunks": True},
            )
            array[...] = stored


def _read_zip(file: BinaryIO, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads arrays and attributes; every error says what is wrong with the file."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f"{entry.filename!r} is compressed or encrypted")
        # Entries of a crafted archive may overlap.
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries are larger than the whole file")
        content = {entry.filename: archive.read(entry) for entry in entries}
    if len(content) < len(entries):
        raise ValueError("two of its entries have one name")
    _take(content, ".zgroup")
    attrs = parse_json(content.pop(".zattrs", b"{}"), ".zattrs")
    tree = _read_members(content)
    if content:
        raise ValueError(f"no array has {min(content)!r:.80}")
    return tree, attrs


def _read_members(content: dict[str, bytes]) -> dict[str, Any]:
    """Takes the members of the root group out of what the archive holds."""
    tree: dict[str, Any] = {}
    found = [key.rpartition("/") for key in content]
    members = [(path, kind) for path, _, kind in found if kind in _KINDS]
    # Groups come before what they hold.
    for path, kind in sorted(members, key=lambda member: member[0].count("/")):
        names = path.split("/")
        if len(names) > _MAX_DEPTH or any(n[:1] in {"", "."} for n in names):
            raise ValueError(f"{path!r:.80} cannot name an array")
        group = tree
        for name in names[:-1]:
            group = group.get(unquote(name))
            if not isinstance(group, dict):
                raise ValueError(f"{path!r:.80} lies in no group")
        name = unquote(names[-1])
        if name in group:
            raise ValueError(f"{path!r:.80} is there twice")
        group[name] = _read_member(content, path, kind)
    return _sorted(tree)


_KINDS = (".zgroup", ".zarray")


def _read_member(content: dict[str, bytes], path: str, kind: str) -> Any:
    metadata = _take(content, f"{path}/{kind}")
    attrs = parse_json(content.pop(f"{path}/.zattrs", b"{}"), f"{path}/.zattrs")
    if kind == ".zgroup":
        return {}
    declared = parse_array(metadata, path)
    shape, dtype = declared.shape, declared.dtype
    if declared.compressed or declared.chunks != tuple(max(1, n) for n in shape):
        raise ValueError(f"{path} is compressed, or of several chunks")
    key = f"{path}/{'.'.join('0' * len(shape)) or '0'}"
    data = content.pop(key, b"") if declared.nbytes == 0 else _take(content, key)
    data = data[: 0 if declared.nbytes == 0 else None]
    if len(data) != declared.nbytes:
        raise ValueError(
            f"{path} holds {len(data):,} bytes; declared are {declared.nbytes:,}"
        )
    array = np.frombuffer(data, dtype).reshape(shape).copy()
    if attrs.get("dtype") != "bfloat16":
        return array
    if dtype != np.uint16:
        raise ValueError(f"{path} is marked as bfloat16, but holds {dtype}")
    return array.view(_BFLOAT16)


def _take(content: dict[str, bytes], key: str) -> bytes:
    if key not in content:
        raise ValueError(f"{key!r:.80} is missing")
    return content.pop(key)


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _sorted(member) if isinstance(member, dict) else member
        for name, member in sorted(tree.items())
    }


def _quoted(name: str) -> str:
    # zarr separates names by slashes, and its own names start with a dot.
    quoted = quote(name, safe="[]()'=<>,: ")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def _check_attrs(where: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}; expected a string.")
            _check_attrs(f"{where}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_attrs(f"{where}[{index}]", item)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(
            f"{where} is a {type(value).__name__}; expected what JSON holds: None, "
            "booleans, numbers, strings, lists, mappings. Arrays go into arrays, numpy "
            "numbers through .item()."
        )
