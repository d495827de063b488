"""What a training run leaves to look at: `metrics.csv`, TensorBoard events, one line an epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from kws.system.atomic import whole_file
from kws.training.run_files import METRICS

Row = dict[str, Any]


class RunLog:
    """Epoch by epoch metrics. The rows are kept in the checkpoint, so that a resumed run goes on with whole files."""

    def __init__(self, run_dir: Path, rows: list[Row]) -> None:
        """Start or go on in `run_dir` after `rows`; what lies there of later epochs is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = run_dir / METRICS
        self._write_csv(rows)
        self.writer = SummaryWriter(str(run_dir), purge_step=len(rows) or None)

    def write(self, rows: list[Row]) -> None:
        """Write the run so far, whose last row is new: `epoch` and its numbers."""
        self._write_csv(rows)
        for name, value in rows[-1].items():
            if name != "epoch":
                self.writer.add_scalar(name, value, rows[-1]["epoch"])
        self.writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()

    def _write_csv(self, rows: list[Row]) -> None:
        with whole_file(self.path) as partial, partial.open("w", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
