"""The table at the end of a sweep: a Hydra callback that gathers what the runs wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from kws.training.run_files import RESULT

COLUMNS = ("validation_accuracy", "parameters", "epochs", "seconds")


class SweepTable(Callback):
    """Prints the runs of a sweep, best first, and writes them to `sweep.csv` in the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last run."""
        folder = Path(config.hydra.sweep.dir)
        rows = []
        for result in sorted(folder.glob(f"*/{RESULT}")):
            values = json.loads(result.read_text())
            overrides = OmegaConf.load(result.parent / ".hydra" / "overrides.yaml")
            rows.append(
                {"run": result.parent.name, "overrides": " ".join(map(str, overrides))}
                | {name: values[name] for name in COLUMNS}
            )
        rows.sort(key=lambda row: row["validation_accuracy"], reverse=True)
        if not rows:
            return
        with (folder / "sweep.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        width = max(len(row["overrides"]) for row in rows)
        print(
            f"\n{'run':>4}  {'overrides':{width}}  {'accuracy':>8}  {'parameters':>10}  {'epochs':>6}  {'seconds':>7}"
        )
        for row in rows:
            print(
                f"{row['run']:>4}  {row['overrides']:{width}}  {row['validation_accuracy']:8.2%}  "
                f"{row['parameters']:10,}  {row['epochs']:6}  {row['seconds']:7.0f}"
            )
        print(folder / "sweep.csv")
