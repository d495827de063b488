"""What a training run needs to go on where it was stopped: kept in its last checkpoint, after every epoch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kws.config import TrainConfig
from kws.errors import KwsError
from kws.model.checkpoint import read_header, read_tensors, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.training.run_files import BEST, LAST

# Options that a resumed run may not change.
FIXED = ("data", "frontend", "model", "augment", "trainer", "distillation", "seed")


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0  # epochs done
    best_accuracy: float = -1.0  # of the epoch that is kept
    best_misses: float = 1.0  # of it, where they are counted
    stale_epochs: int = 0  # since then
    rows: list[dict[str, Any]] = field(default_factory=list)  # metrics of each epoch
    adjustment: list[float] = field(default_factory=list)  # of the next epoch (`kws.training.label_shares`)

    def add(self, row: dict[str, Any], keep: bool) -> None:
        """Count an epoch with these metrics; kept if it misses least, uncounted if most accurate, or with `keep`."""
        self.epoch += 1
        self.rows.append(row)
        self.stale_epochs += 1
        misses, accuracy = row.get("misses", 1.0), row["validation_accuracy"]
        if keep or (-misses, accuracy) > (-self.best_misses, self.best_accuracy):
            self.best_misses, self.best_accuracy, self.stale_epochs = misses, accuracy, 0


@dataclass
class Run:
    """What changes from step to step: the weights in training, their average, the optimizer's moments, the progress."""

    spotter: KeywordSpotter
    averaged: AveragedModel
    optimizer: Optimizer
    progress: Progress = field(default_factory=Progress)

    @property
    def kept(self) -> KeywordSpotter:
        """The spotter with averaged weights: the one that is evaluated and kept."""
        return cast(KeywordSpotter, self.averaged.module)

    def save(self, run_dir: Path, config: TrainConfig) -> None:
        """Keep the averaged weights, and beside them in `last` the weights in training and the optimizer's moments."""
        info = {**dataclasses.asdict(self.progress), "config": dataclasses.asdict(config)}
        extra = {f"raw.{name}": value for name, value in self.spotter.state_dict().items()}
        extra["n_averaged"] = self.averaged.n_averaged
        for i, values in self.optimizer.state_dict()["state"].items():
            extra |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
        if self.progress.stale_epochs == 0:
            save_checkpoint(run_dir / BEST, self.kept, info=info)
        save_checkpoint(run_dir / LAST, self.kept, extra=extra, info=info)

    def restore(self, run_dir: Path, config: TrainConfig) -> None:
        """Put the last epoch of `run_dir` back; a run that saved none starts from the beginning.

        Raises `ValueError` if an option differs from the run that wrote them.
        """
        path, before = run_dir / LAST, saved_config(run_dir)
        if before is None:
            return
        _check_same(path, before, json.loads(json.dumps(dataclasses.asdict(config))))
        self.averaged.module.load_state_dict(read_tensors(path, "model."))
        self.averaged.n_averaged.copy_(read_tensors(path, "n_averaged")[""])
        self.spotter.load_state_dict(read_tensors(path, "raw."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in read_tensors(path, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        info = read_header(path)["info"]
        self.progress = Progress(**{name: info[name] for name in Progress.__dataclass_fields__})


def saved_config(run_dir: Path) -> dict[str, Any] | None:
    """The options of the run in `run_dir`, as plain values; None if it saved no epoch."""
    path = run_dir / LAST
    config: dict[str, Any] | None = read_header(path)["info"]["config"] if path.is_file() else None
    return config


def _check_same(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for group in FIXED:
        then = before.get(group)
        pairs = {group: (then, now[group])}
        if isinstance(then, dict):
            pairs = {f"{group}.{key}": (then.get(key), value) for key, value in now[group].items()}
        changed = [f"{name} was {was!r} and is {value!r} now" for name, (was, value) in pairs.items() if was != value]
        if changed:
            raise KwsError(f"cannot resume {path}: {', '.join(changed)}; give it as it was, or start a new run_dir")
