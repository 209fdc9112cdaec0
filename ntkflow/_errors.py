"""The wording of errors: what is wrong, and the nearest valid name."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: object, options: Iterable[str]) -> ValueError:
    """The error for a name that is none of the options.

    Args:
        kind: What the name was meant to name, for instance `"activation"`.
        name: What was given.
        options: The valid names.

    Returns:
        A `ValueError` that names the nearest option, if one is near, and all of them.
    """
    names = sorted(options)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(option) for option in names)
    return ValueError(f"Unknown {kind} {name!r}.{hint} Valid names: {listed}.")
