"""What a training run needs to go on where it was stopped: kept in its last checkpoint, after every epoch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kws.config import TrainConfig
from kws.errors import KwsError
from kws.model.checkpoint import read_header, read_tensors, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.training.run_log import BEST, LAST

# Options that a resumed run may not change.
FIXED = ("data", "frontend", "model", "augment", "trainer", "distillation", "seed")


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0  # epochs done
    best_accuracy: float = -1.0
    stale_epochs: int = 0  # since the best
    rows: list[dict[str, Any]] = field(default_factory=list)  # metrics of each epoch

    def add(self, row: dict[str, Any]) -> None:
        """Count an epoch with these metrics."""
        self.epoch += 1
        self.rows.append(row)
        self.stale_epochs = 0 if row["validation_accuracy"] > self.best_accuracy else self.stale_epochs + 1
        self.best_accuracy = max(self.best_accuracy, row["validation_accuracy"])


def save_run(
    run_dir: Path, config: TrainConfig, progress: Progress, spotter: KeywordSpotter, averaged: AveragedModel,
    optimizer: Optimizer,
) -> None:  # fmt: skip
    """Keep the averaged weights, and beside them in `last` the weights in training and the optimizer's moments."""
    kept: KeywordSpotter = averaged.module  # type: ignore[assignment]
    info = {**dataclasses.asdict(progress), "config": dataclasses.asdict(config)}
    extra = {f"raw.{name}": value for name, value in spotter.state_dict().items()}
    extra["n_averaged"] = averaged.n_averaged
    for i, values in optimizer.state_dict()["state"].items():
        extra |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
    if progress.stale_epochs == 0:
        save_checkpoint(run_dir / BEST, kept, info=info)
    save_checkpoint(run_dir / LAST, kept, extra=extra, info=info)


def restore_run(
    run_dir: Path, config: TrainConfig, spotter: KeywordSpotter, averaged: AveragedModel, optimizer: Optimizer
) -> Progress:
    """Put the weights and moments of the last epoch back; a run that saved none starts from the beginning.

    Raises `ValueError` if an option differs from the run that wrote them.
    """
    path = run_dir / LAST
    if not path.is_file():
        return Progress()
    info = read_header(path)["info"]
    before, now = info["config"], json.loads(json.dumps(dataclasses.asdict(config)))
    for group in FIXED:
        then = before.get(group)
        if then != now[group]:
            keys = [key for key in now[group] if then.get(key) != now[group][key]] if isinstance(then, dict) else []
            names = ", ".join(f"{group}.{key}" for key in keys) or group
            raise KwsError(f"cannot resume {path}: {names} differs from the run that wrote it; start a new run_dir")
    averaged.module.load_state_dict(read_tensors(path, "model."))
    averaged.n_averaged.copy_(read_tensors(path, "n_averaged")[""])
    spotter.load_state_dict(read_tensors(path, "raw."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in read_tensors(path, "optimizer.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**{name: info[name] for name in Progress.__dataclass_fields__})
