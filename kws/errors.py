"""Errors that a user can mend: one sentence that names the file or value, and what to do. Commands print it alone.

Every other error is a mistake of ours, and a command shows its traceback. Those of files are `OSError`s.
"""

from __future__ import annotations

from collections.abc import Iterable


class KwsError(ValueError):
    """What was asked for cannot be done; each part of kws has a subclass where a caller may want to tell it apart."""


class DataError(KwsError):
    """Data that is missing, damaged or does not fit the request."""


class ModelError(KwsError):
    """A file that is not a keyword spotter that this version can run."""


class DiskFullError(OSError):
    """No space is left where data was being written; what was written has been removed."""


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise `KwsError` unless the option `name` has one of these values."""
    if value not in (allowed := tuple(allowed)):
        raise KwsError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


def between(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise `KwsError` unless the option `name` is between these bounds, which it may be."""
    if not low <= value <= high:
        bounds = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise KwsError(f"{name} is {value}; it must be {bounds}")


def above(name: str, value: float, low: float = 0) -> None:
    """Raise `KwsError` unless the option `name` is above `low`."""
    if not value > low:
        raise KwsError(f"{name} is {value}; it must be above {low}")
