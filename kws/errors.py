"""Errors that a user can mend: one sentence that names the file or value, and what to do. Commands print it alone.

Every other error is a mistake of ours, and a command shows its traceback. Those of files are `OSError`s.
"""


class KwsError(ValueError):
    """What was asked for cannot be done; each part of kws has a subclass where a caller may want to tell it apart."""


class DataError(KwsError):
    """Data that is missing, damaged or does not fit the request."""


class ModelError(KwsError):
    """A file that is not a keyword spotter that this version can run."""


class DiskFullError(OSError):
    """No space is left where data was being written; what was written has been removed."""
