"""Whether what a directory holds is what is asked for."""

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

import equinox as eqx
import jax
import numpy as np

from ._tree import is_key


def printed(tree: Any) -> str:
    """A pytree as text that is the same in every process.

    Args:
        tree: The pytree.

    Returns:
        Its structure and static values, arrays by shape and dtype alone but for those
        of no axes, which are printed as the numbers that they are.
    """
    shown = jax.tree.map(lambda leaf: leaf.item() if _is_number(leaf) else leaf, tree)
    return _without_addresses(eqx.tree_pformat(shown))


def _is_number(leaf: Any) -> bool:
    return eqx.is_array(leaf) and leaf.ndim == 0 and not is_key(leaf)


_LIBRARIES: Final = frozenset({
    "builtins", "diffrax", "equinox", "jax", "jaxlib", "jaxtyping", "lineax", "ntkflow",
    "numpy", "optax", "optimistix", "scipy",
})  # fmt: skip
"""Whose functions and classes are told by their names alone."""


def fingerprint(*parts: Any) -> str:
    """A digest of everything that determines a computation's numbers.

    Args:
        *parts: Modules, containers, arrays and settings. Arrays count by their bytes,
            objects by their class and fields. Functions and classes of one's own count
            by what they are compiled to and what they capture, not by what they call: a
            `program` says more, of what JAX can trace.

    Returns:
        Hexadecimal digits, the same in every process of one version of Python.

    Verified by:
        tests/storage/test_fingerprint.py::test_things_that_differ_in_one_number_differ,
        tests/storage/test_program.py::test_every_process_finds_the_same
    """
    digest = hashlib.sha256()
    for piece in described(parts):
        digest.update(len(piece).to_bytes(8))
        digest.update(piece)
    return digest.hexdigest()


def described(value: Any, within: frozenset[int] = frozenset()) -> Iterator[bytes]:
    """What determines a value, piece by piece.

    Args:
        value: Anything.
        within: The objects that it is part of; they are not described again.

    Yields:
        Bytes.
    """
    kind = type(value)
    yield kind.__qualname__.encode()
    inside = within | {id(value)}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        yield from _of_array(value)
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, str | int | float | complex | type(None)):
        yield repr(value).encode()
    elif id(value) in within:
        yield b"within"
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from described(value[key], inside)
    elif isinstance(value, tuple | list):
        yield str(len(value)).encode()
        for item in value:
            yield from described(item, inside)
    elif isinstance(value, set | frozenset):
        yield from described(sorted(map(str, value)))
    elif isinstance(value, types.CodeType):
        yield value.co_code
        yield from described((value.co_names, value.co_consts), inside)
    elif isinstance(value, type | types.ModuleType):
        yield value.__name__.encode()
    elif dataclasses.is_dataclass(value):
        yield from _of_object(value, inside)
    elif callable(value):
        yield from _of_function(value, inside)
    else:
        yield _without_addresses(repr(value)).encode()


def _of_array(array: Any) -> Iterator[bytes]:
    yield str(array.dtype).encode()
    host = np.asarray(jax.random.key_data(array) if is_key(array) else array)
    yield str(host.shape).encode()
    yield np.ascontiguousarray(host).tobytes()


def _of_object(value: Any, inside: frozenset[int]) -> Iterator[bytes]:
    for field in dataclasses.fields(value):
        # A field may be left unset.
        if hasattr(value, field.name):
            yield field.name.encode()
            yield from described(getattr(value, field.name), inside)
    for base in type(value).__mro__:
        if not _is_known(base):
            for name, member in sorted(vars(base).items()):
                # equinox wraps the methods of a module.
                function = getattr(member, "method", member)
                if isinstance(function, types.FunctionType):
                    yield name.encode()
                    yield from described(function, inside)


def _of_function(value: Any, inside: frozenset[int]) -> Iterator[bytes]:
    wrapped = getattr(value, "__wrapped__", None)
    if isinstance(value, functools.partial):
        yield from described((value.func, value.args, value.keywords), inside)
    elif isinstance(value, types.MethodType):
        yield from described((value.__func__, value.__self__), inside)
    elif _is_known(value):
        name = getattr(value, "__qualname__", repr(value))
        yield _without_addresses(name).encode()
    elif isinstance(value, types.FunctionType):
        yield from described(value.__code__, inside)
        yield from described((value.__defaults__, value.__kwdefaults__), inside)
        for cell in value.__closure__ or ():
            yield from described(cell.cell_contents, inside)
    elif wrapped is not None:
        yield from described(wrapped, inside)
    else:
        yield _without_addresses(repr(value)).encode()


def _is_known(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).split(".")[0] in _LIBRARIES


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
