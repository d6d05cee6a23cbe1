"""Errors that callers distinguish: bad input, and optimizers without a P."""


class InputError(ValueError):
    """What the person who starts a run can put right; shown without a traceback."""


class NoSecondMomentError(ValueError):
    """An optimizer's state from which no preconditioner can be read."""


class NoPreconditionerError(ValueError):
    """A derivative in preconditioned coordinates by a leaf that has no preconditioner.

    Attributes:
      path: the leaf's.
    """

    def __init__(self, path: str, message: str):
        """Takes the path and the sentence that a person reads."""
        super().__init__(message)
        self.path = path
