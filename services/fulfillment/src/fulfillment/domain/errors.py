"""What fulfilment cannot decide. Drawn here, once:

FulfilmentError
├── UnknownKindError        poison: a way of getting the goods that this version does not know
├── AlreadyFulfilledError   poison: goods would leave twice
├── UnknownOrderError       poison: in-band traffic about an order that was never allocated here
├── TransitionError         refused: the state does not allow it
├── TooManyUnitsError       refused: more units than are left
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


class UnknownOrderError(FulfilmentError):
    """In-band order promises that the allocation comes first: the message is impossible."""


class TransitionError(FulfilmentError):
    """The state of the order does not allow this."""


class TooManyUnitsError(FulfilmentError):
    """More units of a line than are left of it. **Shapes**: `key` is the line, `left` what there is."""

    def __init__(self, key: tuple[object, int, str], left: int) -> None:
        super().__init__(f"only {left} units are left of a line")
        self.key, self.left = key, left
