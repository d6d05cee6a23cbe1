"""Errors that hgeo tells from others: bad input of a run, no second moment, no preconditioner."""


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
