"""How a curve went, in words: its ends, and what they hide."""

from ._numbers import Curves, Times, first, last, middle, peak, peak_time
from ._words import number

_FAINT = 0.005
"""An excursion smaller than this part of the curve's size is not worth a clause."""

_PLAIN = 0.05
"""One larger than this is, however far the ends are apart."""


def course(curves: Curves, times: Times) -> str:
    """How a curve went from its first value to its last, and the farthest in between.

    Args:
        curves: Curves over time.
        times: The save times.

    Returns:
        For instance `"rose from 1 to 2"` or `"rose from 1 to 1.1, after a low of 0.5 at
        t = 3"`; `"stayed at 1"` where three digits agree throughout.

    Verified by: tests/plots/test_words.py::test_a_course_names_what_its_ends_hide
    """
    start, end = middle(first(curves)), middle(last(curves))
    low, high = -middle(peak(-curves)), middle(peak(curves))
    below, above = min(start, end) - low, high - max(start, end)
    text = _ends(start, end)
    beyond, size = max(below, above), max(abs(start), abs(end))
    slight = beyond <= abs(end - start) and beyond <= _PLAIN * size
    if slight or beyond <= _FAINT * size:
        return text
    name, value, side = (
        ("low", low, -curves) if below > above else ("peak", high, curves)
    )
    when = number(middle(peak_time(side, times)))
    text = text.replace("stayed at", "began and ended at")
    return f"{text}, after a {name} of {number(value)} at t = {when}"


def _ends(start: float, end: float) -> str:
    if number(start) == number(end):
        return f"stayed at {number(start)}"
    verb = "rose" if end > start else "fell"
    return f"{verb} from {number(start)} to {number(end)}"
