"""The error that every data problem raises: one sentence that names the file or value, and what to do."""


class DataError(ValueError):
    """Data that is missing, damaged or does not fit the request."""


class DiskFullError(OSError):
    """No space is left where data was being written; what was written has been removed."""
