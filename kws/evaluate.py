"""Clip accuracy: `kws evaluate model=FILE`, the same for a checkpoint and for an ONNX file."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws evaluate`, before imports that may be missing
    cli.door("evaluate")

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kws import data, entry
from kws.config import SILENCE, SPLITS, DataConfig, SpeechCommandsConfig, data_from_dict, exact_samples
from kws.data.labels import label_index
from kws.errors import KwsError, one_of
from kws.evaluation import error_analysis, metrics, plots
from kws.evaluation.clip_scores import (
    OnnxModel,
    Posteriors,
    StepModel,
    TorchModel,
    carried_posteriors,
    isolated_posteriors,
)
from kws.model.checkpoint import load_checkpoint
from kws.model.layer import Layer
from kws.onnx_export.onnx_file import export_onnx
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.shipped import find_model
from kws.system.atomic import write_whole


@dataclass
class EvaluateConfig:
    """Which model on which clips."""

    model: str = "???"  # a checkpoint, an ONNX file or the name of a shipped model
    data: Any = None  # a data source; none: the one that the model was trained on
    split: str = "validation"
    carried: bool = True  # also with the state carried from clip to clip
    snr_db: list[float] = field(default_factory=lambda: [20.0, 10.0, 5.0, 0.0])  # spoken clips in noise; []: not
    output: str = ""  # folder of the report; empty: MODEL-SPLIT in the working directory

    def __post_init__(self) -> None:
        one_of("split", self.split, SPLITS)
        if not all(map(math.isfinite, self.snr_db)):
            raise KwsError(f"snr_db is {self.snr_db}; give numbers of decibels")


@dataclass
class LoadedModel:
    """A model to evaluate: `torch` and `onnx` ways to run it (one may be missing) and the data it was trained on."""

    path: Path
    torch: StepModel | None
    onnx: SpotterModel | None  # none of a model that hears whole clips
    trained_on: dict[str, Any]
    sample_rate: int

    def source(self) -> DataConfig:
        """The data source that it was trained on. Raises `KwsError` if it does not say."""
        if "source" not in self.trained_on:
            raise KwsError(f"{self.path} does not say what it was trained on; name the data, e.g. data=speech_commands")
        return data_from_dict(self.trained_on)


def load_model(given: str) -> LoadedModel:
    """A checkpoint (also exported, to a temporary file) or an ONNX file, by its ending."""
    path = find_model(given)
    if path.suffix == ".onnx":
        onnx = SpotterModel(path)
        return LoadedModel(path, None, onnx, onnx.metadata.get("card", {}).get("data", {}), onnx.sample_rate)
    spotter, header = load_checkpoint(path)
    trained_on, sample_rate = header["info"].get("config", {}).get("data", {}), spotter.frontend_config.sample_rate
    if not isinstance(spotter.classifier, Layer):
        return LoadedModel(path, TorchModel(spotter), None, trained_on, sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        export_onnx(spotter, exported)
        onnx = SpotterModel(exported)
    return LoadedModel(path, TorchModel(spotter), onnx, trained_on, sample_rate)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate by `config`: prints the figures, writes `report.json` and its pictures, returns the report."""
    loaded = load_model(config.model)
    path, source = loaded.path, config.data or loaded.source()
    onnx = OnnxModel(loaded.onnx) if loaded.onnx else None
    model = loaded.torch or onnx
    assert model is not None
    corpus = data.load(source, loaded.sample_rate, labels=model.labels)
    clips = corpus.splits[config.split]
    clip_length = exact_samples(source.clip_ms, loaded.sample_rate, "data.clip_ms")
    if loaded.onnx and clip_length % loaded.onnx.block_size:
        raise KwsError(
            f"data.clip_ms {source.clip_ms} is {clip_length} samples, not a multiple of the {loaded.onnx.block_size} "
            f"samples of a block of {path}; export it with another hops_per_step or choose another data.clip_ms"
        )
    posteriors = isolated_posteriors(model, clips, progress=True)
    scores: dict[str, Posteriors] = {"isolated": posteriors}
    if onnx is None:
        print("isolated clips only: this model hears whole clips, so it carries no state and has no ONNX file to step")
    elif config.carried:
        if loaded.torch:
            scores["carried"] = carried_posteriors(loaded.torch, clips, progress=True)
        scores["carried, onnxruntime"] = carried_posteriors(onnx, clips, progress=True)
    report = _report(model.labels, clips.labels, scores)
    report |= _errors(model, corpus, source, config, posteriors.argmax(1))
    report |= {"model": str(path), "split": config.split, "clips": len(clips), "source": source.source}
    output = Path(config.output or f"{path.stem}-{config.split}")
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    plots.plot_confusion(np.array(report["confusion"]), model.labels, output / "confusion.png")
    plots.plot_errors(report["by_loudness"], report.get("by_snr", {}), output / "errors.png")
    _print(report, output)
    return report


def _errors(
    model: StepModel, corpus: data.Corpus, source: DataConfig, config: EvaluateConfig, predicted: Any
) -> dict[str, Any]:
    """Accuracy by loudness, and of the spoken clips (isolated) in the split's own noise."""
    clips = corpus.splits[config.split]
    silent = clips.labels == label_index(model.labels, SILENCE)
    levels, right = error_analysis.levels_dbfs(clips), predicted == clips.labels
    report: dict[str, Any] = {"by_loudness": error_analysis.by_loudness(levels, right, silent)}
    spoken = np.flatnonzero(~silent)
    if not config.snr_db or not len(spoken):
        return report
    if config.split == "test" and isinstance(source, SpeechCommandsConfig) and source.test_dir:
        # The official test archive came alone: its noise is that of its silence clips.
        noise = clips.waveforms(np.flatnonzero(silent & (levels > -np.inf))).ravel()
    else:
        noise = corpus.noise[config.split]
    if noise.any():
        report["by_snr"] = {error_analysis.CLEAN: error_analysis.share_right(right[spoken])}
        for snr_db in config.snr_db:
            noisy: Any = error_analysis.NoisyClips(clips, spoken, noise, snr_db)
            right = isolated_posteriors(model, noisy, progress=True).argmax(1) == clips.labels[spoken]
            report["by_snr"][f"{snr_db:g}"] = error_analysis.share_right(right)
    return report


def _report(labels: tuple[str, ...], truth: Any, scores: dict[str, Posteriors]) -> dict[str, Any]:
    predicted = {name: posteriors.argmax(1) for name, posteriors in scores.items()}
    confusion = metrics.confusion_matrix(truth, predicted["isolated"], len(labels))
    accuracies = {name: error_analysis.share_right(found == truth) for name, found in predicted.items()}
    report: dict[str, Any] = {"accuracy": accuracies, "labels": list(labels), "confusion": confusion.tolist()}
    report["confusions"] = error_analysis.confusions(confusion, labels)
    precision, recall, f1 = metrics.class_scores(confusion)
    report["per_class"] = {
        label: {"precision": p, "recall": r, "f1": f, "clips": int(n)}
        for label, p, r, f, n in zip(
            labels, precision.tolist(), recall.tolist(), f1.tolist(), confusion.sum(1), strict=True
        )
    }
    if "carried" in predicted:
        report["onnxruntime_differs"] = int((predicted["carried"] != predicted["carried, onnxruntime"]).sum())
    return report


def _print(report: dict[str, Any], output: Path) -> None:
    width = max(9, *(len(label) for label in report["labels"]))
    print(f"{'class':{width}}  precision  recall  clips")
    for label, row in report["per_class"].items():
        print(f"{label:{width}}  {row['precision']:9.2%}  {row['recall']:6.2%}  {row['clips']:5}")
    print(f"\n{error_analysis.tables(report)}")
    print(f"\n{report['clips']} {report['split']} clips of {report['source']}")
    for name, row in report["accuracy"].items():
        low, high = row["interval"]
        print(f"accuracy, {name:20} {row['accuracy']:7.2%}   (95 % interval {low:.2%} to {high:.2%})")
    if "onnxruntime_differs" in report:
        print(f"predictions in which onnxruntime differs from torch: {report['onnxruntime_differs']}")
    print(*(output / name for name in ("report.json", "confusion.png", "errors.png")))


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("evaluate_schema", EvaluateConfig)
    entry.register_data_sources()


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws evaluate`: the exit status."""
    register_schemas()
    return entry.main(evaluate, "evaluate", _with_source(arguments))


def _with_source(arguments: Sequence[str]) -> list[str]:
    """`data.root=DIR` and the like change the source that the model was trained on, unless `data=` names another."""
    given = dict(argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument)
    if "model" not in given or "data" in given or not any(key.startswith("data.") for key in given):
        return [*arguments]
    entry.register("of_the_model", load_model(given["model"]).source(), "data")
    return ["data=of_the_model", *arguments]
