"""The error of a run that can't start: bad configuration, missing or unusable files."""


class InputError(ValueError):
    """What the person who starts a run can put right; shown without a traceback."""
