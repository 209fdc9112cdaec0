"""Users' own data: `.npz` archives of numpy, and IDX files, gzip-compressed or not."""

import gzip
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jax.typing import DTypeLike

from .._errors import unknown_name
from .._types import Scaling, TargetEncoding
from ..storage import check_growth
from ._arrays import from_arrays
from ._dataset import Dataset
from ._idx import HEADER, IDXError, is_idx, parse_idx, size_of_idx
from ._npy import read_npy

_FAULTS = (
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged or crafted archive may raise, headers of arrays among it."""


def from_file(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    test: str | Path | None = None,
    test_labels: str | Path | None = None,
    names: Sequence[str] | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    targets: TargetEncoding = "onehot",
    classes: Sequence[int | str] | None = None,
    flatten: bool = True,
    scaling: Scaling = "common",
    dtype: DTypeLike | None = None,
) -> Dataset:
    """Makes a data set of files: checked, split, standardized and encoded.

    An `.npz` file holds inputs and targets under two names, and may hold a test part
    under two more. An IDX file holds one array, so targets come in a second file. The
    kind of a file is told by its first bytes.

    Args:
        path: An `.npz` file, or an IDX file of inputs.
        labels: The IDX file of targets.
        test: A file of the same kind with the test part; else it is in the `.npz`
            file, or split off.
        test_labels: The IDX file of test targets.
        names: The names of inputs and targets in an `.npz` file, and possibly those of
            test inputs and test targets. `None` for `x`, `y`, and `x_test`, `y_test`
            where the file has them.
        n_train: How many examples to train on; `None` for all that are not tested on.
        n_test: How many examples to test on; `None` for the whole test part, or none
            if there is none.
        seed: Equal seeds give equal splits.
        targets: `"onehot"`, `"centered"`, `"labels"` or `"regression"`; see
            `from_arrays`.
        classes: The classes to keep, in the order of the outputs; `None` for all.
        flatten: Whether inputs become rows of features. If not, inputs of shape
            [N, H, W] become [N, 1, H, W], and others keep their shape.
        scaling: `"common"`, `"each"` or `"none"`; see `from_arrays`.
        dtype: A real float dtype; `None` for JAX's default.

    Returns:
        The data set, named after the file.

    Raises:
        ValueError: If a file is cut short or of another kind, an array is missing, or
            the arrays are none that `from_arrays` takes.
    """
    if test is None and test_labels is not None:
        raise ValueError("test_labels is given without test; expected both or none.")
    path = Path(path)
    arrays = _read(path, labels, names)
    if test is not None:
        if len(arrays) > 2:
            raise ValueError(
                f"{path} holds a test part, and test={str(test)!r} is given; expected "
                'one of them. Pass names=("x", "y") to leave out the one in the file.'
            )
        names = None if names is None else names[:2]
        arrays += _read(Path(test), test_labels, names)[:2]
    shaped = [
        _with_features(values, flatten) if index % 2 == 0 else values
        for index, values in enumerate(arrays)
    ]
    x, y, x_test, y_test = [*shaped, None, None][:4]
    return from_arrays(
        x,
        y,
        x_test=x_test,
        y_test=y_test,
        n_train=n_train,
        n_test=n_test,
        seed=seed,
        targets=targets,
        classes=classes,
        scaling=scaling,
        dtype=dtype,
        name=path.name,
    )


def _read(
    path: Path, labels: str | Path | None, names: Sequence[str] | None
) -> list[np.ndarray]:
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    if path.suffix == ".npz" and not zipped:
        raise _unreadable(path, "an .npz file", "it is no zip archive")
    if zipped:
        if labels is not None:
            raise ValueError(
                f"{path} is an .npz file, which holds its targets itself; expected no "
                f"second file, got {str(labels)!r}."
            )
        return _read_npz(path, names)
    if names is not None:
        raise ValueError(f"{path} is no .npz file; names={names!r} have no meaning.")
    if labels is None:
        raise ValueError(
            f"{path} holds one array; expected a second file with the targets. Pass it "
            "as labels (test_labels for the test part)."
        )
    return [_read_idx(path), _read_idx(Path(labels))]


def _read_npz(path: Path, names: Sequence[str] | None) -> list[np.ndarray]:
    if names is not None and len(names) not in (2, 4):
        raise ValueError(
            f"names={names!r}; expected two names, of inputs and targets, or four, the "
            "test part included."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            held = {
                entry.filename.removesuffix(".npy"): entry
                for entry in archive.infolist()
                if entry.filename.endswith(".npy")
            }
            if names is None:
                names = ["x", "y"]
                names += [name for name in ("x_test", "y_test") if name in held]
            missing = [name for name in names if name not in held]
            if not missing:
                entries = [held[name] for name in names]
                check_growth(path.stat().st_size, sum(e.file_size for e in entries))
                return [read_npy(archive, entry) for entry in entries]
    except _FAULTS as error:
        raise _unreadable(path, "an .npz file", error) from error
    raise unknown_name(f"array in {path}", missing[0], held)


def _read_idx(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            return _parse(file.read(), path)
        try:
            with gzip.GzipFile(fileobj=file) as source:
                return _parse(_unzipped(source, path), path)
        except IDXError:
            raise
        except _FAULTS as error:
            raise _unreadable(path, "a gzip file", error) from error


def _unzipped(source: gzip.GzipFile, path: Path) -> bytes:
    """What the header announces, and one byte more if there is one."""
    content = source.read(HEADER)
    if not is_idx(content):
        return content
    size = size_of_idx(content, str(path))
    check_growth(path.stat().st_size, size)
    return content + source.read(max(0, size + 1 - len(content)))


def _parse(content: bytes, path: Path) -> np.ndarray:
    if not is_idx(content):
        raise IDXError(
            f"{path} starts with the bytes {content[:4].hex(' ') or 'none'}; expected "
            "an .npz file or an IDX file (00 00, type, number of axes)."
        )
    return parse_idx(content, str(path))


def _unreadable(path: Path, kind: str, error: object) -> ValueError:
    return ValueError(
        f"{path} cannot be read as {kind}: {error}. It may be cut short or altered: "
        "copy or download it again."
    )


def _with_features(x: np.ndarray, flatten: bool) -> np.ndarray:
    if flatten:
        return x.reshape(len(x), -1) if x.ndim > 1 and len(x) else x
    return x[:, None] if x.ndim == 3 else x
