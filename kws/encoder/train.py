"""A run that makes an encoder: pieces of speech, learning, thresholds of typed words, the ONNX file and its figures."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from kws.config import PhonemesConfig, RecurrentConfig, TrainConfig
from kws.encoder import sources
from kws.encoder.learn import Options, learn
from kws.encoder.measure import heard_phonemes, phoneme_error, typed_thresholds
from kws.encoder.pieces import Pieces, Plan, make_pieces, new_encoder
from kws.encoder.rows import ROW_FRAMES
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.onnx_export.onnx_file import export_onnx
from kws.recordings.speech import read_speech
from kws.runtime.onnx_model import SpotterModel
from kws.speech.phonemes import from_ipa, pronounce
from kws.system.atomic import write_whole
from kws.system.jobs import cores
from kws.system.progress import Stage
from kws.training.run_files import BEST, LAST_STEP, RESULT

FA_PER_HOUR = 0.5  # of a typed word
PROVISIONAL = [1.0]  # thresholds of typed words, until they are measured


def train_encoder(config: TrainConfig, run_dir: Path) -> float:
    """Make `run_dir/encoder.onnx`; returns 1 less its phoneme error on speech unheard.

    A run that was stopped goes on with `resume=true`. Raises `KwsError` for data that is not there.
    """
    options, model = cast(PhonemesConfig, config.data), config.model
    if not isinstance(model, RecurrentConfig) or not model.speech_convs:
        raise KwsError("an encoder is a recurrent model behind a pretrained one; choose experiment=encoder")
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    workers, rng = options.workers or cores(), np.random.default_rng(config.seed)
    plans = sources.speech_plans(Path(options.speech), options.left_out)
    plans += sources.spoken_plans(plans, options.spoken, rng)
    if options.words_root:
        plans += sources.word_plans(Path(options.words_root), "train", options.left_out, options.words_clips, rng)
    if config.augment.noise_dir:
        plans += [Plan([str(u.path)]) for u in read_speech(Path(config.augment.noise_dir), "augment.noise_dir")]
    plans = [plans[i] for i in rng.permutation(len(plans))]
    folder, layers = Path(options.cache_dir) / "encoder", (config.frontend, model)
    made = [path for copy in range(options.copies) for path in make_pieces(folder, plans, layers, copy, workers)]
    pieces = Pieces.read(made)
    trainer = config.trainer
    steps = round(trainer.epochs * len(pieces.heard) / (trainer.batch_size * ROW_FRAMES))
    encoder = new_encoder(config.frontend, model)
    if not config.resume:
        (run_dir / LAST_STEP).unlink(missing_ok=True)
    hours = len(pieces.heard) * encoder.frame_length / config.frontend.sample_rate / 3600
    print(f"{encoder.n_parameters:,} parameters, {hours:.1f} h, {steps} steps; {run_dir}")
    with Stage("learning", steps, "step") as stage:
        learning = Options(steps, trainer.batch_size)
        encoder = learn(encoder, pieces, run_dir, trainer, learning, config.seed, stage.advance)
    save_checkpoint(run_dir / BEST, encoder, info={"config": json.loads(json.dumps(config, default=vars))})
    return finish(config, run_dir)


def finish(config: TrainConfig, run_dir: Path) -> float:
    """Thresholds, figures and `encoder.onnx` of a run that has learned."""
    options = cast(PhonemesConfig, config.data)
    for name in ("onnxscript", "onnx_ir"):  # their news would be written to the log that Hydra sets up
        logging.getLogger(name).setLevel(logging.WARNING)
    encoder, _ = load_checkpoint(run_dir / BEST)
    path = run_dir / "encoder.onnx"
    detector = {"pooling": "sum", "smoothing_ms": 30.0, "score": "posterior", "threshold": 0.5}
    described = {"detector": detector, "typed_thresholds": PROVISIONAL}
    card: dict[str, Any] = {"licence": "CC BY 4.0", "clip_length": 16000}
    export_onnx(encoder, path, card=card, kind="phonemes", more=described)
    model = SpotterModel(path, kind="phonemes")
    calibrate = [u for u in read_speech(Path(options.calibrate), "data.calibrate") if u.text]
    thresholds = typed_thresholds(model, calibrate, FA_PER_HOUR, np.random.default_rng(config.seed))
    errors = phoneme_errors(model, options)
    card |= {"phoneme_error": errors, "fa_per_hour": FA_PER_HOUR}
    export_onnx(encoder, path, card=card, kind="phonemes", more={**described, "typed_thresholds": thresholds})
    result = {"phoneme_error": errors, "typed_thresholds": thresholds, "parameters": encoder.n_parameters}
    write_whole(run_dir / RESULT, (json.dumps(result, indent=2) + "\n").encode())
    print(f"phoneme error {', '.join(f'{name} {100 * error:.1f} %' for name, error in errors.items())}; {path}")
    return 1 - errors["all"]


def phoneme_errors(model: SpotterModel, options: PhonemesConfig) -> dict[str, float]:
    """The phoneme error on speakers unheard, by source (second folder of a file), of all, of words."""
    check = Path(options.check)
    known = [u for u in read_speech(check, "data.check") if sources.ENGLISH.fullmatch(u.text)]
    logits = heard_phonemes(model, [u.path for u in known])
    said = [from_ipa(ipa) for ipa in pronounce([u.text for u in known])]
    parts = [Path(os.path.relpath(u.path, check.parent)).parts for u in known]
    names = [part[min(1, len(part) - 1)] for part in parts]
    errors = {}
    for name in sorted(set(names)):
        chosen = [i for i, other in enumerate(names) if other == name]
        errors[name] = phoneme_error([logits[i] for i in chosen], [said[i] for i in chosen], model.labels)
    errors["all"] = phoneme_error(logits, said, model.labels)
    if options.words_root:
        root, rng = Path(options.words_root), np.random.default_rng(0)
        plans = sources.word_plans(root, "validation", options.left_out, 400, rng)
        clips = [(Path(path), word) for plan in plans for path, word in zip(plan.files, plan.text.split(), strict=True)]
        said = [from_ipa(ipa) for ipa in pronounce([word for _, word in clips])]
        errors["words"] = phoneme_error(heard_phonemes(model, [path for path, _ in clips]), said, model.labels)
    return {name: round(error, 4) for name, error in errors.items()}
