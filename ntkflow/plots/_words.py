"""Numbers in words."""

import math

_EXACT_SHARE = 1e-3
_MANY = 10.0


def number(x: float) -> str:
    """A number to three digits.

    Args:
        x: The number.

    Returns:
        For instance `"0.012"` or `"3.4e-07"`.
    """
    return f"{x:.3g}"


def share(x: float) -> str:
    """A part of a whole, as a percentage where that reads well.

    Args:
        x: The part, 1 for the whole.

    Returns:
        For instance `"34 % of"`, `"12 times"` or `"3.1e-07 of"`.
    """
    if abs(x) >= _MANY:
        return f"{x:.3g} times"
    if x != 0 and abs(x) < _EXACT_SHARE:
        return f"{x:.2g} of"
    return f"{percent(x)} of"


def percent(x: float) -> str:
    """A percentage to two digits, or to whole percents.

    Args:
        x: The part, 1 for the whole.

    Returns:
        For instance `"34 %"` or `"0.25 %"`.
    """
    p = 100 * x
    return f"{p:.0f} %" if abs(p) >= _MANY or p == 0 else f"{p:.2g} %"


def accuracy(x: float) -> str:
    """A share of examples as a percentage to three digits, as tables give it.

    Args:
        x: The share.

    Returns:
        For instance `"92.5 %"`.
    """
    return f"{number(100 * x)} %"


def ordinal(n: int) -> str:
    """The n-th.

    Args:
        n: At least 1.

    Returns:
        For instance `"4th"`.
    """
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if n % 100 in {11, 12, 13} else endings.get(n % 10, "th")
    return f"{n}{ending}"


def known(*numbers: float) -> bool:
    """Whether all numbers are there to be said.

    Args:
        *numbers: Numbers, NaN where there is none.

    Returns:
        Whether all are finite.
    """
    return all(math.isfinite(x) for x in numbers)
