"""Training: `python -m kws.train`. The loop is in plain sight; device, precision, processes are lightning-fabric's."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws train`, before imports that may be missing
    cli.door("train")

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from kws import data, entry
from kws.config import (
    MODELS,
    AugmentConfig,
    FrontendConfig,
    TrainConfig,
    TrainerConfig,
    exact_samples,
)
from kws.data.batches import TrainBatches
from kws.errors import KwsError
from kws.evaluation.clip_scores import TorchModel, isolated_posteriors
from kws.evaluation.metrics import accuracy
from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.training.augment import FeatureMasker, WaveformAugmenter
from kws.training.run_log import BEST, RESULT, RunLog
from kws.training.run_state import Progress, restore_run, save_run

CORRECTION = "prior_correction"  # in a checkpoint's info


def learning_rate(config: TrainerConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def warmed_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential averaging of weights; its decay grows to `decay`, so that early averages let go of the start."""

    def average(averaged: Any, current: Any, n_averaged: Any) -> None:
        n = int(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n_averaged)

    return average


def load_teacher(path: Path, student: KeywordSpotter) -> tuple[KeywordSpotter, Tensor]:
    """The spotter to learn from, and the prior correction that is in it, float32 `[K]`.

    Raises `ValueError` if it does not know the same labels at the same rate.
    """
    teacher, header = load_checkpoint(path)
    for what, of in (("labels", lambda s: list(s.labels)), ("sample rate", lambda s: s.frontend_config.sample_rate)):
        if of(teacher) != of(student):
            raise KwsError(
                f"distillation.teacher={path} has the {what} {of(teacher)}, this run {of(student)}; "
                "choose a teacher that was trained on the same data"
            )
    return teacher, torch.tensor(header["info"].get(CORRECTION, [0.0] * len(teacher.labels)))


class Trainer:
    """One training run: everything that changes from step to step, and how it is saved and restored."""

    def __init__(self, config: TrainConfig, run_dir: Path) -> None:
        """Load the data, build the model and, with `config.resume`, restore the last epoch of `run_dir`."""
        options = config.trainer
        if options.threads:
            torch.set_num_threads(options.threads)
        self.config, self.run_dir = config, run_dir
        self.fabric = Fabric(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            precision=options.precision,  # type: ignore[arg-type]
        )
        self.fabric.launch()
        torch.manual_seed(config.seed)
        sample_rate = config.frontend.sample_rate
        self.corpus = data.load(config.data, sample_rate, progress=self.fabric.is_global_zero)
        self.spotter = KeywordSpotter(config.frontend, config.model, self.corpus.labels)
        clip_length = exact_samples(config.data.clip_ms, sample_rate, "data.clip_ms")
        if clip_length % self.spotter.frame_length:
            raise KwsError(
                f"data.clip_ms {config.data.clip_ms} is not a multiple of a decision every "
                f"{1000 * self.spotter.frame_length / sample_rate} ms (frontend.hop_ms x model.time_stride)"
            )
        world_size = self.fabric.world_size
        lanes, rest = divmod(options.batch_size, world_size)
        if rest:
            raise KwsError(f"trainer.batch_size {options.batch_size} is not a multiple of the {world_size} processes")
        self.batches = TrainBatches(
            self.corpus, config.data, lanes, config.seed, self.fabric.global_rank, world_size, sample_rate
        )
        if config.init_from:
            self._start_from(Path(config.init_from))
        else:
            self._fit_normalization()
        decay_groups = [
            {"params": [p for p in self.spotter.parameters() if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in self.spotter.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(decay_groups, lr=options.learning_rate)
        self.averaged = AveragedModel(
            self.spotter, multi_avg_fn=warmed_average(options.average_decay), use_buffers=True
        )
        self.progress = Progress()
        if config.resume:
            self.progress = restore_run(run_dir, config, self.spotter, self.averaged, optimizer)
            self.fabric.print(f"resuming {run_dir} after epoch {self.progress.epoch}")
        self.model, self.optimizer = self.fabric.setup(self.spotter, optimizer)
        self.averaged.to(self.fabric.device)
        noise = torch.from_numpy(self.corpus.noise["train"].astype(np.float32) / 32768)
        self.augmenter = WaveformAugmenter(config.augment, sample_rate, noise.to(self.fabric.device))
        self.masker = FeatureMasker(config.augment)
        self.teacher: KeywordSpotter | None = None
        if config.distillation.teacher:
            teacher, correction = load_teacher(Path(config.distillation.teacher), self.spotter)
            self.teacher, self.teacher_correction = teacher.to(self.fabric.device), correction.to(self.fabric.device)

    def run(self) -> dict[str, Any]:
        """Train to the end; returns what `result.json` holds."""
        options, fabric, progress = self.config.trainer, self.fabric, self.progress
        if fabric.is_global_zero:
            clips = {split: len(clips) for split, clips in self.corpus.splits.items()}
            print(
                f"{self.spotter.n_parameters:,} parameters, {len(self.spotter.labels)} labels, clips {clips}, "
                f"{self.batches.n_batches} steps an epoch on {fabric.device}; {self.run_dir}"
            )
            log = RunLog(self.run_dir, progress.rows)
        started = time.perf_counter()
        while progress.epoch < options.epochs:
            if options.early_stopping_epochs and progress.stale_epochs >= options.early_stopping_epochs:
                fabric.print(f"no better validation accuracy in {progress.stale_epochs} epochs: stopping early")
                break
            row = self._train_epoch()
            row["validation_accuracy"] = fabric.broadcast(
                self._validate(self.averaged_spotter) if fabric.is_global_zero else 0.0
            )
            progress.add(row)
            if fabric.is_global_zero:
                log.write(progress.rows)
                fabric.print(
                    f"epoch {progress.epoch:3d}/{options.epochs}  loss {row['loss']:.3f}  "
                    f"accuracy {row['accuracy']:.2%}  validation {row['validation_accuracy']:.2%}  "
                    f"{row['clips_per_second']:.0f} clips/s"
                )
                save_run(self.run_dir, self.config, progress, self.spotter, self.averaged, self.optimizer)
            fabric.barrier()
        best_accuracy = fabric.broadcast(self._finish() if fabric.is_global_zero else 0.0)
        result = {
            "validation_accuracy": best_accuracy,
            "parameters": self.spotter.n_parameters,
            "epochs": progress.epoch,
            "seconds": round(time.perf_counter() - started, 1),
            "checkpoint": str(self.run_dir / BEST),
        }
        if fabric.is_global_zero:
            log.close()
            (self.run_dir / RESULT).write_text(json.dumps(result, indent=2) + "\n")
            print(f"best validation accuracy {best_accuracy:.2%}; {self.run_dir / BEST}")
        return result

    def _train_epoch(self) -> dict[str, Any]:
        options, fabric, epoch = self.config.trainer, self.fabric, self.progress.epoch
        # Every draw of an epoch comes from (seed, epoch, process), so that a resumed epoch is the same epoch.
        seed = (self.config.seed * 1_000_003 + epoch) * 1009 + fabric.global_rank
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.model.train()
        n_batches = self.batches.n_batches
        state = self.spotter.initial_state(self.batches.batch_size)
        teacher_state = self.teacher.initial_state(self.batches.batch_size) if self.teacher else state
        loss_sum = correct = seen = 0.0
        started = time.perf_counter()
        bar = tqdm(
            self.batches.epoch(epoch), f"epoch {epoch + 1}", n_batches, leave=False, unit_scale=len(state),
            unit="clip", disable=not fabric.is_global_zero, mininterval=0.5,
        )  # fmt: skip
        for i, batch in enumerate(bar):
            rate = learning_rate(options, epoch * n_batches + i, n_batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            waveform = torch.from_numpy(batch.waveform).to(fabric.device).float() / 32768
            labels = torch.from_numpy(batch.labels).to(fabric.device)
            keep = torch.rand(len(labels), 1, generator=generator) >= options.reset_probability
            state = state.detach() * keep.to(state)
            waveform = self.augmenter(waveform, generator)
            logits, state = self.model(waveform, state, self.masker)
            scores = self.spotter.pool(logits)
            targets = labels
            if self.teacher:
                taught, teacher_state = self._taught(waveform, teacher_state * keep.to(state))
                hard = nn.functional.one_hot(labels, scores.shape[1]).to(scores)
                targets = torch.lerp(hard, taught.to(scores), self.config.distillation.weight)
            loss = nn.functional.cross_entropy(scores, targets, label_smoothing=options.label_smoothing)
            self.optimizer.zero_grad()
            fabric.backward(loss)
            norm = fabric.clip_gradients(
                self.model, self.optimizer, max_norm=options.gradient_clip or math.inf, error_if_nonfinite=False
            )
            if not torch.isfinite(loss) or not torch.isfinite(norm):
                raise KwsError(
                    f"the loss is {loss.item()} at step {epoch * n_batches + i} (learning rate {rate:.2e}, "
                    f"gradient norm {norm.item()}); lower trainer.learning_rate or trainer.gradient_clip"
                )
            self.optimizer.step()
            self.averaged.update_parameters(self.spotter)

            loss_sum += loss.item() * len(labels)
            correct += (scores.argmax(1) == labels).sum().item()
            seen += len(labels)
            bar.set_postfix(loss=f"{loss_sum / seen:.3f}", accuracy=f"{correct / seen:.2%}", refresh=False)
        return {
            "epoch": epoch + 1,
            "loss": loss_sum / seen,
            "accuracy": correct / seen,
            "learning_rate": rate,
            "clips_per_second": seen * fabric.world_size / (time.perf_counter() - started),
        }

    @torch.no_grad()
    def _taught(self, waveform: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's posteriors `[B, K]`, at the label shares of training, of what the student hears; its state."""
        assert self.teacher
        with self.fabric.autocast():
            logits, state = self.teacher(waveform, state)
        scores = self.teacher.pool(logits.float()) - self.teacher_correction
        return scores.softmax(dim=1), state.float()

    @property
    def averaged_spotter(self) -> KeywordSpotter:
        """The spotter with averaged weights: the one that is evaluated and kept."""
        return cast(KeywordSpotter, self.averaged.module)

    def _validate(self, spotter: KeywordSpotter) -> float:
        clips = self.corpus.splits["validation"]
        return accuracy(clips.labels, isolated_posteriors(TorchModel(spotter.eval()), clips).argmax(1))

    def _finish(self) -> float:
        """Correct the best checkpoint's posteriors for the label shares of evaluation; its validation accuracy."""
        path = self.run_dir / BEST
        spotter, header = load_checkpoint(path)
        info = header["info"]
        if self.config.trainer.prior_correction and CORRECTION not in info:
            correction = self.batches.prior_correction(self.config.data)
            spotter.add_bias(torch.from_numpy(correction))
            info |= {CORRECTION: correction.tolist(), "best_accuracy": self._validate(spotter)}
            save_checkpoint(path, spotter, info=info)
        return float(info["best_accuracy"])

    def _fit_normalization(self) -> None:
        clips = self.corpus.splits["train"]
        chosen = np.random.default_rng(self.config.seed).choice(len(clips), min(2000, len(clips)), replace=False)
        parts = np.array_split(np.sort(chosen), -(-len(chosen) // 200))
        self.spotter.fit_normalization(
            [torch.from_numpy(clips.waveforms(part).astype(np.float32) / 32768) for part in parts]
        )

    def _start_from(self, path: Path) -> None:
        other, _ = load_checkpoint(path)
        for name in ("frontend_config", "model_config", "labels"):
            if getattr(other, name) != getattr(self.spotter, name):
                what = name.removesuffix("_config")
                raise KwsError(f"init_from={path} has another {what} than this run; choose the same options")
        self.spotter.load_state_dict(other.state_dict())


def train(config: TrainConfig) -> float:
    """Train by `config` in Hydra's output folder; returns the best validation accuracy."""
    run_dir = entry.run_dir()
    run_dir.mkdir(parents=True, exist_ok=True)
    return float(Trainer(config, run_dir).run()["validation_accuracy"])


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("train_schema", TrainConfig)
    entry.register_data_sources("_schema")
    for architecture, model in MODELS.items():
        entry.register(f"{architecture}_schema", model, "model")
    for group, node in (("frontend", FrontendConfig), ("augment", AugmentConfig), ("trainer", TrainerConfig)):
        entry.register("schema", node, group)


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws train`: the exit status."""
    register_schemas()
    return entry.main(train, "train", arguments, folder="")
