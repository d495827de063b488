"""Where a live stream stands: seconds heard, level, load."""

from __future__ import annotations

import dataclasses

from kws.audio.levels import dbfs
from kws.system.arrays import Float32

METER_SECONDS = 2.0  # time over which level and load are averaged, about
SILENT_DB = -96.0


@dataclasses.dataclass
class Meter:
    """Where a stream stands. level_db: dBFS (RMS). load: seconds of computing for a second of audio."""

    seconds: float = 0.0
    level_db: float = SILENT_DB
    load: float = 0.0

    def add(self, block: Float32, seconds: float, busy: float) -> None:
        """A block of so many seconds, which took `busy` seconds to compute."""
        if not len(block):
            return
        self.seconds += seconds
        level = max(SILENT_DB, float(dbfs(block)))
        self.level_db = max(level, self.level_db - 30 * seconds)  # falls by 30 dB a second
        self.load += (busy / seconds - self.load) * min(1.0, seconds / METER_SECONDS)
