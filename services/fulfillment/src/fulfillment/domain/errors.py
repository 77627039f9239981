"""What fulfilment cannot decide. Drawn here, once:

FulfilmentError
├── UnknownKindError        poison: a way of getting the goods that this version does not know
├── AlreadyFulfilledError   poison: goods would leave twice
├── SeriesOverlapError      refused: a block of numbers that another block could give as well
└── SeriesInUseError        refused: a block would end before numbers that it has given
"""


class FulfilmentError(Exception):
    """Root of what this service cannot decide; the loop parks the order's key."""


class UnknownKindError(FulfilmentError):
    """The order asks for a way of getting the goods that this version does not know."""


class AlreadyFulfilledError(FulfilmentError):
    """A new attempt came for an order that another fulfilment order still holds or has shipped."""


class SeriesOverlapError(FulfilmentError):
    """Two blocks of numbers could give the same text."""


class SeriesInUseError(FulfilmentError):
    """A block cannot end before the numbers that it has given."""
