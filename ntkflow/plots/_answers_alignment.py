"""Whether the kernel turned to the targets: the centered number decides."""

import xarray as xr

from ._course import course
from ._numbers import first, last, middle
from ._read import has, read, times_of
from ._words import known, number

_SLIGHT = 0.005
"""A change of alignment, which lies between 0 and 1, that is hardly one."""

_WORDS = {
    "alignment_centered_trace": "the centered alignment (CKA) of the trace kernel",
    "alignment_trace": "its alignment without centering",
    "alignment_centered": "the centered alignment",
    "alignment": "the alignment without centering",
}
_FULL = {
    "alignment_centered": "centered",
    "alignment": "without centering",
}


def kernel_in_words(variable: str) -> str:
    """Which kernel a variable is read off.

    Args:
        variable: Its name.

    Returns:
        `"trace kernel"` or `"kernel"`.
    """
    return "trace kernel" if variable.endswith("_trace") else "kernel"


def say_alignment(dataset: xr.Dataset) -> list[str]:
    """Whether the kernel turned to the targets.

    The verdict is that of the centered alignment, of the trace kernel if it was read: a
    constant part of kernel and targets hides the turning in the plain one, and the
    number of outputs in that of the full kernel. Where they disagree it is said.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    present = [name for name in _WORDS if has(dataset, name)]
    if not present:
        return []
    times = times_of(dataset)
    chief = present[0]
    trace = chief.endswith("_trace")
    rest = [name for name in present[1:] if name.endswith("_trace") == trace]
    text = f"{_verdict(dataset, chief)}: {_WORDS[chief]} (between 0 and 1) "
    text += course(read(dataset, chief), times)
    for name in rest:
        text += f"; {_WORDS[name]} {course(read(dataset, name), times)}"
    said = [f"{text}."]
    disagree = [name for name in rest if _change(dataset, chief, name) < 0]
    if disagree:
        said.append(
            "Centered and not centered they disagree: the latter counts the constant "
            "part of kernel and targets, which tells nothing of classes; the centered "
            "one is to be followed."
        )
    full = [name for name in _FULL if trace and has(dataset, name)]
    if full:
        courses = "; ".join(
            f"{_FULL[name]}, it {course(read(dataset, name), times)}" for name in full
        )
        bound = ""
        if dataset.sizes.get("output", 0) > 1:
            most = number(dataset.sizes["output"] ** -0.5)
            bound = f" is at most {most} where outputs are treated alike"
        said.append(f"The alignment of the kernel over all outputs{bound}: {courses}.")
    return said


def _ends(dataset: xr.Dataset, name: str) -> tuple[float, float]:
    curves = read(dataset, name)
    return middle(first(curves)), middle(last(curves))


def _verdict(dataset: xr.Dataset, name: str) -> str:
    start, end = _ends(dataset, name)
    if end == start:
        return "It kept its angle to the targets"
    if abs(end - start) < _SLIGHT:
        return "It hardly turned to or from the targets"
    return "It turned " + ("towards" if end > start else "away from") + " the targets"


def _change(dataset: xr.Dataset, one: str, other: str) -> float:
    """The product of two changes, negative where both are noticeable and differ."""
    changes = []
    for name in (one, other):
        start, end = _ends(dataset, name)
        if not known(start, end) or abs(end - start) < _SLIGHT:
            return 0.0
        changes.append(end - start)
    return changes[0] * changes[1]
