"""Errors that callers distinguish: bad input, and optimizers without a P."""


class InputError(ValueError):
    """Bad input that the user can correct; commands print it without a traceback."""


class NoSecondMomentError(ValueError):
    """An optimizer's state holds no second moment to compute a preconditioner from."""


class NoPreconditionerError(ValueError):
    """A preconditioned loss is differentiated in a leaf that has no preconditioner.

    Attributes:
      path: the leaf's path.
    """

    def __init__(self, path: str, message: str):
        """Takes the path and the message."""
        super().__init__(message)
        self.path = path
