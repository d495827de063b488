"""Training: `python -m kws.train`. `prepare` is what a run is made of, `Trainer` the loop over its epochs and steps."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws train`, before imports that may be missing
    cli.door("train")

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kws import data, entry
from kws.config import MODELS, AugmentConfig, FrontendConfig, PhonemesConfig, TrainConfig, TrainerConfig
from kws.data import Corpus
from kws.data.batches import TrainBatches
from kws.data.speech import RunningSpeech
from kws.errors import KwsError
from kws.evaluation.clip_scores import TorchModel, isolated_posteriors
from kws.evaluation.heard_false import false_alarms, misses_at
from kws.evaluation.metrics import accuracy
from kws.system.arrays import Int64
from kws.system.atomic import write_whole
from kws.system.progress import Stage
from kws.training.augment import FeatureMasker, WaveformAugmenter
from kws.training.build import build_spotter, make_augmenter, make_batches, validation_speech
from kws.training.device import autocast, best_precision, check_accelerator, connect, lost_processes
from kws.training.label_shares import next_adjustment
from kws.training.loss import lane_loss
from kws.training.optimization import average_weights, learning_rate, make_optimizer
from kws.training.run_files import BEST, LAST, LAST_STEP, RESULT
from kws.training.run_log import RunLog
from kws.training.run_state import Run, saved_config
from kws.training.teacher import Teacher

MINING_FROM = 2  # epochs before running speech is mined
FA_PER_HOUR = 1.0  # at which misses are counted


def train(config: TrainConfig) -> float:
    """Train by `config` in Hydra's output folder; returns the best validation accuracy."""
    run_dir = entry.run_dir()
    check(config, run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with lost_processes():
        if isinstance(config.data, PhonemesConfig):
            from kws.encoder.train import train_encoder  # what only an encoder needs is loaded for it alone

            return train_encoder(config, run_dir)
        return float(prepare(config, run_dir).train()["validation_accuracy"])


def check(config: TrainConfig, run_dir: Path) -> None:
    """Raise `KwsError` for what can be known to be wrong before anything is downloaded, decoded or written."""
    if not (config.resume or config.overwrite) and any((run_dir / name).exists() for name in (LAST, LAST_STEP)):
        remedy = "resume=true goes on with it, overwrite=true begins anew; or choose another run_dir"
        raise KwsError(f"{run_dir} holds a run already; {remedy}")
    checkpoints = {"init_from": [config.init_from], "distillation.teachers": config.distillation.teachers}
    named = {
        "data.train_recordings": config.data.train_recordings,
        "data.speech": config.data.speech,
        "data.speech_validation": config.data.speech_validation,
        "augment.noise_dir": config.augment.noise_dir,
        "augment.rir_dir": config.augment.rir_dir,
    }
    for option, paths in ({name: [path] for name, path in named.items()} | checkpoints).items():
        for path in filter(None, paths):
            if not Path(path).expanduser().exists():
                raise KwsError(f"{option} is {path}, which does not exist")
    check_accelerator(config.trainer)


def prepare(config: TrainConfig, run_dir: Path) -> Trainer:
    """Devices, data, model, optimizer and, with `config.resume`, the last epoch of `run_dir`: a run before its next."""
    options, sample_rate = config.trainer, config.frontend.sample_rate
    if options.threads:
        torch.set_num_threads(options.threads)
    device = connect(options)
    if options.precision == "auto":
        began = saved_config(run_dir) if config.resume else None
        precision = began["trainer"]["precision"] if began else best_precision(device.device)
        config = replace(config, trainer=replace(options, precision=device.broadcast(precision)))
    torch.manual_seed(config.seed)
    corpus = data.load(config.data, sample_rate, progress=device.is_global_zero)
    batches = make_batches(config, corpus, device)
    spotter = build_spotter(config, corpus).to(device.device)
    run = Run(spotter, average_weights(spotter, options.average_decay), make_optimizer(spotter, options))
    if config.resume:
        run.restore(run_dir, config)
        if (first := device.broadcast(run.progress.epoch)) != run.progress.epoch:
            raise KwsError(f"{run_dir} is not the same on all machines: epoch {first} there; put it on a shared disk")
        device.print(f"resuming {run_dir} after epoch {run.progress.epoch}")
    augmenter = make_augmenter(config, batches.noise, device.device)
    teacher = None
    if config.distillation.teachers:
        teacher = Teacher(config.distillation, spotter, device.device, every_frame=batches.speech is not None)
    masker, speech = FeatureMasker(config.augment), validation_speech(config, corpus)
    return Trainer(config, run_dir, device, corpus, batches, run, augmenter, masker, teacher, speech)


@dataclass
class Trainer:
    """A run and all that it is trained with; `device` is `kws.training.device.OneDevice` or a lightning `Fabric`."""

    config: TrainConfig
    run_dir: Path
    device: Any
    corpus: Corpus
    batches: TrainBatches
    run: Run
    augmenter: WaveformAugmenter
    masker: FeatureMasker
    teacher: Teacher | None
    speech: RunningSpeech | None  # to count false alarms in after each epoch

    def train(self) -> dict[str, Any]:
        """Train to the end; returns what `result.json` holds."""
        options, device, run = self.config.trainer, self.device, self.run
        progress = run.progress
        model, optimizer = device.setup(run.spotter, run.optimizer)
        if device.is_global_zero:
            clips = {split: len(clips) for split, clips in self.corpus.splits.items()}
            print(
                f"{run.spotter.n_parameters:,} parameters, {len(run.spotter.labels)} labels, clips {clips}, "
                f"{self.batches.n_batches} steps an epoch on {device.device} in {options.precision}; {self.run_dir}"
            )
            log = RunLog(self.run_dir, progress.rows)
        started = time.perf_counter()
        while progress.epoch < options.epochs:
            if options.early_stopping_epochs and progress.stale_epochs >= options.early_stopping_epochs:
                device.print(f"no better validation accuracy in {progress.stale_epochs} epochs: stopping early")
                break
            row = self._train_epoch(model, optimizer)
            found = self._validate() if device.is_global_zero else ({}, [])
            measured, progress.adjustment = device.broadcast(found)
            row |= measured
            # Clips say nothing of false alarms in running speech: where those aren't counted, the last epoch is as good
            # as any.
            progress.add(row, keep=self.batches.speech is not None and self.speech is None)
            if device.is_global_zero:
                log.write(progress.rows)
                print(
                    f"epoch {progress.epoch:3d}/{options.epochs}  loss {row['loss']:.3f}  "
                    f"accuracy {row['accuracy']:.2%}  validation {row['validation_accuracy']:.2%}  "
                    + (f"misses {row['misses']:.1%}  " if "misses" in row else "")
                    + f"{row['clips_per_second']:.0f} clips/s",
                    flush=True,
                )
                run.save(self.run_dir, self.config)
            device.barrier()
        result = {
            "validation_accuracy": progress.best_accuracy,
            "parameters": run.spotter.n_parameters,
            "epochs": progress.epoch,
            "seconds": round(time.perf_counter() - started, 1),
            "checkpoint": str(self.run_dir / BEST),
        }
        if device.is_global_zero:
            log.close()
            write_whole(self.run_dir / RESULT, (json.dumps(result, indent=2) + "\n").encode())
            misses = f", misses {progress.best_misses:.1%}" if self.speech else ""
            print(f"best validation accuracy {progress.best_accuracy:.2%}{misses}; {self.run_dir / BEST}")
        return result

    def _train_epoch(self, model: nn.Module, optimizer: Any) -> dict[str, Any]:
        """One pass over the training split; its loss, accuracy and speed."""
        options, device, spotter, epoch = self.config.trainer, self.device, self.run.spotter, self.run.progress.epoch
        # Every draw of an epoch comes from (seed, epoch), so that a resumed epoch is the same epoch, and is made for
        # the whole batch, of which a process takes its rows; but for dropout and SpecAugment.
        seed = (self.config.seed * 1_000_003 + epoch) * 1009
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + device.global_rank)
        model.train()
        n_batches, batch_size = self.batches.n_batches, self.batches.batch_size
        rows, lanes = self.batches.rows, self.batches.lanes
        state = spotter.initial_state(lanes)
        adjustment = torch.tensor(self.run.progress.adjustment or [0.0] * len(spotter.labels), device=device.device)
        teacher_state = self.teacher.initial_state(lanes) if self.teacher else state
        loss_sum = correct = seen = 0.0
        started = time.perf_counter()
        with Stage(f"epoch {epoch + 1}", n_batches * lanes, show=device.is_global_zero, line=False) as stage:
            for i, batch in enumerate(self.batches.epoch(epoch, self._mine())):
                rate = learning_rate(options, epoch * n_batches + i, n_batches)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                waveform = torch.from_numpy(batch.waveform).to(device.device).float() / 32768
                labels = torch.from_numpy(batch.labels).to(device.device)
                running, fresh, allowed = (
                    torch.from_numpy(flags).to(device.device) for flags in (batch.running, batch.fresh, batch.allowed)
                )
                keep = (torch.rand(batch_size, 1, generator=generator)[rows] >= options.reset_probability).to(state)
                drawn = self.augmenter.draw(batch_size, waveform.shape[1], generator)
                waveform = self.augmenter.apply(waveform, drawn.of(rows), running)
                targets, taught = labels, None
                with autocast(device.device, options.precision):
                    logits, state = model(waveform, state.detach() * keep, self.masker)
                    if self.teacher:
                        targets, taught, teacher_state = self.teacher.targets(
                            waveform, teacher_state * keep, labels, adjustment
                        )
                logits, state = logits.float(), state.float()
                scores = spotter.pool(logits)
                loss = lane_loss(
                    logits, scores + adjustment, targets, running, fresh, allowed, spotter.pool_frames,
                    options.label_smoothing, self.config.data.speech_margin, taught, self.config.distillation.weight,
                )  # fmt: skip
                optimizer.zero_grad()
                device.backward(loss)
                norm = device.clip_gradients(
                    model, optimizer, max_norm=options.gradient_clip or math.inf, error_if_nonfinite=False
                )
                if not torch.isfinite(loss) or not torch.isfinite(norm):
                    raise KwsError(
                        f"the loss is {loss.item()} at step {epoch * n_batches + i} (learning rate {rate:.2e}, "
                        f"gradient norm {norm.item()}); lower trainer.learning_rate or trainer.gradient_clip"
                    )
                optimizer.step()
                self.run.averaged.update_parameters(spotter)

                loss_sum += loss.item() * lanes
                correct += (scores.argmax(1) == labels).sum().item()
                seen += lanes
                stage.advance(lanes, f"loss={loss_sum / seen:.3f}, accuracy={correct / seen:.2%}")
        sums = torch.tensor([loss_sum, correct, seen], dtype=torch.float64 if device.device.type == "cpu" else None)
        loss_sum, correct, seen = device.all_reduce(sums.to(device.device), reduce_op="sum").tolist()
        return {
            "epoch": epoch + 1,
            "loss": loss_sum / seen,
            "accuracy": correct / seen,
            "learning_rate": rate,
            "clips_per_second": seen / (time.perf_counter() - started),
        }

    def _mine(self) -> Int64 | None:
        """Where in the running speech the averaged model hears keywords, if it has learned enough to be asked."""
        speech, count = self.batches.speech, self.config.data.speech_mined
        if speech is None or not count or self.run.progress.epoch < MINING_FROM:
            return None
        return false_alarms(self.run.kept.eval(), speech, count, self.config.data.speech_command_mode)[0]

    def _validate(self) -> tuple[dict[str, float], list[float]]:
        """What validation measured, by its column, and the adjustment of scores for the next epoch."""
        clips, names = self.corpus.splits["validation"], self.corpus.labels
        posteriors = isolated_posteriors(TorchModel(self.run.kept.eval()), clips)
        adjustment = self.run.progress.adjustment or [0.0] * len(names)
        if self.config.trainer.logit_adjustment:
            adjustment = next_adjustment(adjustment, posteriors, clips.labels, names)
        measured = {"validation_accuracy": accuracy(clips.labels, posteriors.argmax(axis=1))}
        if self.speech:
            measured["misses"] = misses_at(FA_PER_HOUR, self.run.kept, self.speech, clips)
        return measured, adjustment


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
