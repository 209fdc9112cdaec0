"""Going on beyond the end of a run that has finished, as if there had been none."""

from collections.abc import Callable, Sequence

from ._auto import Log
from ._checkpoint import FIRST_LEVEL, Checkpoint
from ._tracked import Tracked


def can_extend(
    store: Checkpoint,
    index: int,
    tracked: Sequence[Tracked],
    alike: Callable[[int, Log], bool],
) -> bool:
    """Whether what is kept of a solve is the beginning of one to a later time.

    It is not where the end has changed more than the last steps: where the length of
    all steps, or what `auto` took, came of it, where a tolerance was found missed in a
    step that it cut, or where such a decision was interrupted.

    Args:
        store: The checkpoint.
        index: Index of the solve.
        tracked: The run, not begun, and before it its companion, if it has one.
        alike: Takes a level and what `auto` did at it to whether it would again.

    Returns:
        Whether the run can go on.
    """
    for one in tracked:
        if one.read(store, index) is None or one.valid is None:
            return False
        for member, valid in enumerate(one.valid):
            if len(store.read_records(index, member, one.level)) < valid:
                return False
    level = tracked[-1].level
    if not all(store.was_clean(index, lower) for lower in range(FIRST_LEVEL, level)):
        return False
    if level == FIRST_LEVEL:
        return True
    for lower in range(FIRST_LEVEL - 1, level - 1):
        tally = store.read_tally(index, lower)
        if tally is None:
            return False
        if tally.log is not None and not alike(lower, tally.log):
            return False
    return True
