"""What a model promises: thresholds for so many false alarms an hour, and the hours of speech behind each promise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from kws.errors import KwsError


@dataclass(frozen=True)
class OperatingPoint:
    """One promise, of all keywords of a file together. Hours are those of speech in which no keyword was said."""

    fa_per_hour: float  # promised false alarms an hour
    thresholds: Mapping[str, float]  # of every keyword, as `DetectorConfig.thresholds`
    hours: float  # that the thresholds were chosen on
    false_alarms: int  # heard in them
    fa_interval: Sequence[float]  # false alarms an hour, 95 %
    extrapolated: bool  # fewer hours than show such a rate: the tail of the scores was fitted
    events: int = 0  # keywords said beside those hours
    misses: int = 0  # of them
    frr_interval: Sequence[float] = (0.0, 1.0)  # share of misses, 95 %

    @classmethod
    def from_dict(cls, values: Any) -> OperatingPoint:
        """From JSON. Raises `KwsError` for a missing or unknown name, or a value of a wrong type or out of range."""
        if not isinstance(values, Mapping):
            raise KwsError(f"an operating point is {values!r}, not a table")
        known = {field.name for field in fields(cls)}
        optional = {"events", "misses", "frr_interval"}
        if wrong := sorted((set(values) - known) | (known - optional - set(values))):
            raise KwsError(f"an operating point has an unknown or lacks the key {wrong[0]}")
        for name in ("fa_per_hour", "hours"):
            if not (_is_number(values[name]) and 0 < values[name] <= 1e6):
                raise KwsError(f"fa_per_hour and hours of an operating point must be above 0: {name} {values[name]!r}")
        for name in ("false_alarms", "events", "misses"):
            if not (type(number := values.get(name, 0)) is int and 0 <= number <= 1e9):
                raise KwsError(f"{name} of an operating point is {number!r}, not a whole number of at least 0")
        for name in ("fa_interval", "frr_interval"):
            interval = values.get(name, [0, 1])
            if not (isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))):
                raise KwsError(f"{name} of an operating point is {interval!r}, not two numbers")
        if not isinstance(values["thresholds"], Mapping) or type(values["extrapolated"]) is not bool:
            raise KwsError("an operating point needs thresholds, a table, and extrapolated, true or false")
        return cls(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
