"""What a training run leaves to look at: `metrics.csv`, TensorBoard events, one line an epoch."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BEST, LAST, RESULT = "best.safetensors", "last.safetensors", "result.json"  # the files of a run


class RunLog:
    """Epoch by epoch metrics; `rows` is kept in the checkpoint, so that a resumed run goes on with whole files."""

    def __init__(self, run_dir: Path, rows: list[Row]) -> None:
        """Start or go on in `run_dir` after `rows`; what lies there of later epochs is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.rows = run_dir / "metrics.csv", rows
        self._write_csv()
        self.writer = SummaryWriter(str(run_dir), purge_step=len(rows) or None)

    def add(self, row: Row) -> None:
        """Add an epoch: `row["epoch"]` and its numbers."""
        self.rows.append(row)
        self._write_csv()
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()

    def _write_csv(self) -> None:
        partial = self.path.with_suffix(".csv.partial")
        with partial.open("w", newline="") as file:
            if self.rows:
                writer = csv.DictWriter(file, self.rows[0].keys())
                writer.writeheader()
                writer.writerows(self.rows)
        os.replace(partial, self.path)
