"""A seeded order of examples in which every stretch holds the classes in proportion.

The members of a class, shuffled, take evenly spaced places in [0, 1); sorting all
examples by place interleaves the classes. The training part is the head of that order,
the test part what follows. Unlike `sklearn.model_selection.train_test_split` this asks
for no minimum: the test part may be empty, and either part smaller than the number of
classes. With one seed, a larger training part contains the smaller one.
"""

import numpy as np
from jaxtyping import Int, Shaped


def stratified_order(
    labels: Shaped[np.ndarray, " N"], *, seed: int
) -> Int[np.ndarray, " N"]:
    """A random order in which every stretch holds the classes in proportion.

    Member j of the n of a class takes the place (j + 1/2)/n.

    Verified by: tests/data/test_split.py::test_stretches_hold_classes_in_proportion

    Args:
        labels: The class of each example; a constant for an order that is only random.
        seed: Equal seeds give equal orders.

    Returns:
        The indices of the examples, each once.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    # Sorting the shuffled examples stably leaves equal places in random order.
    return shuffled[np.argsort(place[shuffled], kind="stable")]
