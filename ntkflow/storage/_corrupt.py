"""The error of a part that cannot be trusted."""


class CorruptPartError(ValueError):
    """A stored part is not what was once written: cut short, altered, or no part."""
