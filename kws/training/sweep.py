"""The table at the end of a sweep: a Hydra callback that gathers what the runs wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from kws.errors import KwsError
from kws.system.atomic import whole_file
from kws.training.run_files import ERROR, RESULT

COLUMNS = ("validation_accuracy", "parameters", "epochs", "seconds")


class Failed(BaseException):
    """An error on its way past Hydra, which writes lines of its own about every `Exception`."""


class SweepTable(Callback):
    """Prints the runs of a sweep, failed ones, then best first, and writes them to `sweep.csv` in its folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last run."""
        folder = Path(config.hydra.sweep.dir)
        rows = []
        for run in sorted({path.parent for name in (RESULT, ERROR) for path in folder.glob(f"*/{name}")}):
            is_done = (run / RESULT).exists()
            values = json.loads((run / RESULT).read_text()) if is_done else {}
            overrides = OmegaConf.load(run / ".hydra" / "overrides.yaml")
            rows.append(
                {"run": run.name, "overrides": " ".join(map(str, overrides))}
                | {name: values.get(name, "") for name in COLUMNS}
                | {"error": "" if is_done else (run / ERROR).read_text().strip()}
            )
        rows.sort(key=lambda row: row["validation_accuracy"] or -1, reverse=True)
        if not rows:
            return
        failed = [row for row in rows if row["error"]]
        with whole_file(folder / "sweep.csv") as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        width = max(len(row["overrides"]) for row in rows)
        print(
            f"\n{'run':>4}  {'overrides':{width}}  {'accuracy':>8}  {'parameters':>10}  {'epochs':>6}  {'seconds':>7}"
        )
        for row in failed:
            print(f"{row['run']:>4}  {row['overrides']:{width}}  {row['error']}")
        for row in rows[: len(rows) - len(failed)]:
            print(
                f"{row['run']:>4}  {row['overrides']:{width}}  {row['validation_accuracy']:8.2%}  "
                f"{row['parameters']:10,}  {row['epochs']:6}  {row['seconds']:7.0f}"
            )
        print(folder / "sweep.csv")
        if failed:
            why = KwsError(f"{len(failed)} of {len(rows)} runs failed; {folder / 'sweep.csv'} says why")
            raise Failed from why
