"""A directory of parts, each of which is there in full or not at all."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._errors import unknown_name
from ._publish import is_leftover, write_file

# `_archive` is imported where it is used: it brings zarr, which is slow to import.

_EXTENSION = ".zarr.zip"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Store:
    """A directory of named parts, each one file `NAME.zarr.zip`.

    A part holds arrays and attributes. It is written beside, forced to the disk and
    renamed into place, so a process killed at any moment leaves the old part or the new
    one. Any number of processes may read and write at the same time; of two writers of
    one part the later wins. Every part ends with a checksum that is verified whenever
    it is read.

    Making a `Store` touches no file: the directory is made by the first `write`, and
    each `write` removes what killed writers left behind.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def write(
        self,
        name: str,
        arrays: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes a part, in place of an earlier one of that name. No pickle is used.

        Args:
            name: Letters, digits, `_`, `-` and `.`; numbers with leading zeros keep
                `names` in order.
            arrays: Numpy or JAX arrays by name, possibly in nested mappings: booleans,
                integers, floats (bfloat16 too), complex numbers, strings. They come
                back bit for bit.
            attrs: What JSON can hold; tuples come back as lists.

        Raises:
            ValueError: If the name, an array or an attribute cannot be stored; an
                earlier part of that name is then left as it was.
        """  # ruff: ignore[docstring-extraneous-exception]: raised by the checks
        from ._archive import write_archive

        write_file(
            self._file(name), lambda path: write_archive(path, arrays, attrs or {})
        )

    def read(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a part and verifies its checksum.

        Args:
            name: The name it was written under.

        Returns:
            The arrays as numpy arrays, nested as they were written, names sorted; and
            the attributes.

        Raises:
            ValueError: If there is no part of that name.
            CorruptPartError: If the file is cut short or altered.
        """  # ruff: ignore[docstring-extraneous-exception]: raised by read_archive
        from ._archive import read_archive

        try:
            return read_archive(self._file(name))
        except FileNotFoundError:
            raise self._missing(name) from None

    def names(self) -> list[str]:
        """The names of all finished parts, sorted as strings.

        Returns:
            The names; none if the directory is not there.
        """
        if not self.path.is_dir():
            return []
        files = (entry.name for entry in os.scandir(self.path) if entry.is_file())
        stems = (
            file.removesuffix(_EXTENSION) for file in files if file.endswith(_EXTENSION)
        )
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def is_vacant(self) -> bool:
        """Whether nothing lies in the directory.

        Returns:
            Also true if there is no directory, or only what a writer left in it that
            was killed.

        Verified by:
            tests/storage/test_store.py::test_what_killed_writers_left_is_nothing
        """
        if not self.path.is_dir():
            return True
        return all(is_leftover(name) for name in os.listdir(self.path))

    def remove(self, name: str) -> None:
        """Removes a part.

        Args:
            name: The name it was written under.

        Raises:
            ValueError: If there is no part of that name.
        """  # ruff: ignore[docstring-extraneous-exception]: made by _missing
        try:
            self._file(name).unlink()
        except FileNotFoundError:
            raise self._missing(name) from None

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a part: expected letters, digits, '_', '-' and "
                "'.', the first no dash or dot."
            )
        return self.path / (name + _EXTENSION)

    def _missing(self, name: str) -> ValueError:
        return unknown_name(f"part of {self.path}", name, self.names())
