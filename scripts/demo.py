"""`make demo`: synthetic speech, training, evaluation, export, and a minute of speech through the streaming runtime.

Usage: python scripts/demo.py [overrides of the training, e.g. trainer.epochs=1]
"""

import sys
import time
from pathlib import Path

import numpy as np
import soundfile as sf

from kws import cli, data
from kws.config import UNKNOWN, data_from_dict
from kws.streaming import StreamingSpotter

RUN_DIR = Path("runs/demo")
SLOT_SECONDS, MINUTE = 1.5, 60


def run(*arguments: str) -> None:
    print(f"\n$ kws {' '.join(arguments)}", flush=True)
    if status := cli.main(arguments):
        sys.exit(status)


def minute_of_speech(corpus, sample_rate, rng):
    """Test clips with pauses over quiet noise: the waveform and [(onset s, word)]."""
    clips = corpus.splits["test"]
    waveform = rng.normal(0, 0.002, MINUTE * sample_rate).astype(np.float32)
    chosen = rng.permutation(len(clips))[: int(MINUTE / SLOT_SECONDS) - 1]
    truth = []
    for slot, index in enumerate(chosen):
        start = int((slot * SLOT_SECONDS + 0.4 * rng.random() + 0.1) * sample_rate)
        clip = clips.waveforms([index])[0].astype(np.float32) / 32768
        waveform[start : start + len(clip)] += clip
        truth.append((start / sample_rate, clips.words[index], corpus.labels[clips.labels[index]]))
    return waveform.clip(-1, 1), truth


def main() -> None:
    started = time.perf_counter()
    run("train", "experiment=demo", f"run_dir={RUN_DIR}", "overwrite=true", *sys.argv[1:])
    run("evaluate", f"model={RUN_DIR}/best.safetensors", "split=test", f"output={RUN_DIR}/best-test")
    run("export", f"{RUN_DIR}/best.safetensors")

    spotter = StreamingSpotter(RUN_DIR / "best.onnx")
    model = spotter.model
    trained_on = model.metadata["card"]["data"]
    corpus = data.load(data_from_dict(trained_on), model.sample_rate, labels=model.labels)
    waveform, truth = minute_of_speech(corpus, model.sample_rate, np.random.default_rng(0))
    sf.write(RUN_DIR / "minute.wav", waveform, model.sample_rate)
    detections = [d for block in np.array_split(waveform, 600) for d in spotter.feed(block)] + spotter.flush()

    print(
        f"\nA minute of unheard voices ({RUN_DIR / 'minute.wav'}) through {RUN_DIR / 'best.onnx'}, 100 ms at a time:\n"
    )
    print("  time   spoken       detected")
    right = wrong = missed = 0
    left = list(detections)
    for onset, word, label in truth:
        matched = [d for d in left if onset <= d.end <= onset + SLOT_SECONDS]
        left = [d for d in left if d not in matched]
        is_keyword = not label.startswith("_")
        right += is_keyword and any(d.keyword == label for d in matched)
        missed += is_keyword and not any(d.keyword == label for d in matched)
        wrong += sum(d.keyword != label for d in matched)
        heard = ", ".join(f"{d.keyword} ({d.score:.2f}) at {d.time:.2f} s" for d in matched) or "-"
        spoken = word if is_keyword or (label == UNKNOWN and word != "_silence_") else "(noise)"
        print(f"  {onset:5.2f}  {spoken:11}  {heard}{'' if is_keyword else '   (not a keyword)'}")
    print(f"\n{right} keywords detected, {missed} missed, {wrong + len(left)} false detections; ", end="")
    print(f"the whole demo took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
