"""What a solver made for training can find wrong, in its own state."""

import enum


class Code(enum.IntEnum):
    """Why a solver ended a solve; diffrax's own results cannot be extended."""

    FINE = 0
    SPECTRUM = 1
    FACTORIZATION = 2
