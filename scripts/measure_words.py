"""Measures `kws new` on recordings of words that it never heard: `python scripts/measure_words.py DATA --output DIR`.

DATA is a folder with `wake/PHRASE/*.wav` and, for other words, `SpeechCommands/speech_commands_v0.02/WORD`; running
speech as `speech/train.csv` and `speech/calibrate.csv` (both are what `kws new` learns from and chooses its thresholds
on) and `speech/check.csv` (heard by nothing but this); noise and rooms that nothing trained on as `noise/check.csv` and
`rooms/check.csv`. Recordings stand alone, two seconds apart: clean, in noise at 10 dB, and in rooms. With
`--takes 3,10` words are made anew with so many recordings of each; these, and all others by their speakers, are not
scored. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kws.audio.levels import noise_gain, rms, to_int16
from kws.data.decode import read_int16
from kws.data.splits import speaker_of
from kws.evaluation.operating_points import operating_point, score_recordings
from kws.new import new
from kws.recordings.echo import convolved
from kws.recordings.labels import COLUMNS, LABELS_FILE
from kws.recordings.speech import read_speech
from kws.runtime.onnx_model import SpotterModel
from kws.system.arrays import Float32, Int16
from kws.system.atomic import whole_folder

WORDS = "jarvis,smart mirror,marvin,sheila,happy,zero,backward,forward,visual,seven"
WAKE, COMMANDS = "wake", "SpeechCommands/speech_commands_v0.02"
SAMPLE_RATE = 16000
CONDITIONS = ("clean", "noise", "room")
BEFORE, AFTER, FAINT, SNR_DB = 1.2, 0.8, 4.0, 10.0  # s, s, RMS of 32768, dB
PROMISES = (0.2, 0.5, 1.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--words", default=WORDS, help="comma between words")
    parser.add_argument("--together", action="store_true", help="one file for all words, not one for each")
    parser.add_argument("--takes", default="0", help="counts, comma between them")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--most", type=int, default=300, help="recordings of a word that are scored")
    parser.add_argument("--language", default="en")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    words = options.words.split(",")
    clips = {word: Clips(options.data, word, options.most) for word in words}
    sets = {
        (word, kind, condition): recording_set(options, word, kind, condition, paths)
        for word in words
        for kind, paths in clips[word].scored.items()
        for condition in (CONDITIONS if kind == "recorded" else CONDITIONS[:1])
        if paths
    }
    rows = []
    for group in [words] if options.together else [[word] for word in words]:
        for takes in map(int, options.takes.split(",")):
            if takes and not all(clips[word].takes[takes - 1 :] for word in group):
                continue
            for seed in options.seeds.split(","):
                rows += measured(options, group, clips, sets, takes, int(seed))
                (options.output / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print_table(rows)


class Clips:
    """The recordings of a word: `takes`, at most ten, where there are enough, and the `scored`, by their kind."""

    def __init__(self, data: Path, word: str, most: int) -> None:
        folder = data / WAKE / word.replace(" ", "_")
        paths = sorted((folder if folder.is_dir() else data / COMMANDS / word).glob("*.wav"))
        if not paths:
            raise SystemExit(f"error: there are no recordings of {word!r} in {folder.parent} or {data / COMMANDS}")
        made = data / COMMANDS / "reconstructed_list.txt"
        reconstructed = set(made.read_text().split()) if made.is_file() else set()
        order = np.random.default_rng(0).permutation(len(paths))
        kinds: dict[str, list[Path]] = {"recorded": [], "reconstructed": []}
        for i in order:
            name = f"{paths[i].parent.name}/{paths[i].name}"
            kinds["reconstructed" if name in reconstructed else "recorded"].append(paths[i])
        self.takes = kinds["recorded"][:10] if len(kinds["recorded"]) > 60 else []
        heard = {speaker_of(path.as_posix()) or path.name for path in self.takes}
        self.scored = {
            kind: [path for path in members if (speaker_of(path.as_posix()) or path.name) not in heard][:most]
            for kind, members in kinds.items()
        }


def recording_set(options: argparse.Namespace, word: str, kind: str, condition: str, paths: Sequence[Path]) -> Path:
    """A recording set of a word's clips under a condition, made where it is not there."""
    folder = Path(options.output / "sets" / f"{word.replace(' ', '_')}-{kind}-{condition}")
    if folder.is_dir():
        return folder
    rng = np.random.default_rng(1)
    table = {"noise": "noise/check.csv", "room": "rooms/check.csv"}.get(condition)
    others = [u.path for u in read_speech(options.data / table, condition)] if table else []
    sounds, rows, start = [], [], 0
    for path in paths:
        clip = read_int16(path, SAMPLE_RATE).astype(np.float32)
        before, after = round(BEFORE * SAMPLE_RATE), round(AFTER * SAMPLE_RATE)
        scene = np.concatenate([np.zeros(before, np.float32), clip, np.zeros(after, np.float32)])
        if condition == "room":
            room = read_int16(others[int(rng.integers(len(others)))], SAMPLE_RATE).astype(np.float32)
            scene = convolved(scene, room / np.abs(room).max())[: len(scene)]
            scene *= float(rms(clip)) / max(float(rms(scene[before : before + len(clip)])), 1.0)
        if condition == "noise":
            scene = scene + noise_of(others, clip, len(scene), rng)
        scene += rng.normal(0, FAINT, len(scene)).astype(np.float32)
        times = [round((start + at) / SAMPLE_RATE, 4) for at in (before, before + len(clip))]
        rows.append(["words.wav", *times, word])
        sounds.append(to_int16(scene / 32768))
        start += len(scene)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder, "--output") as partial:
        soundfile.write(partial / "words.wav", np.concatenate(sounds), SAMPLE_RATE)
        with (partial / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return folder


def noise_of(paths: Sequence[Path], clip: Float32, length: int, rng: np.random.Generator) -> Float32:
    """Noise float32 `[length]` 10 dB below the clip, one with sound in it."""
    noise: Int16 = np.zeros(1, np.int16)
    while not noise.any():
        found = read_int16(paths[int(rng.integers(len(paths)))], SAMPLE_RATE)
        start = int(rng.integers(max(1, len(found) - length)))
        noise = np.resize(found[start : start + length], length)
    return noise.astype(np.float32) * np.float32(noise_gain(clip, noise.astype(np.float32), SNR_DB))


def measured(
    options: argparse.Namespace, group: list[str], clips: dict[str, Clips], sets: dict[Any, Path], takes: int, seed: int
) -> list[dict[str, Any]]:
    """What a file for `group` does: a row for each word, kind of recordings and condition."""
    name = f"{'-'.join(group).replace(' ', '_')[:60]}-takes{takes}-seed{seed}"
    folder = options.output / name
    model = folder / "model.onnx"
    if not model.is_file():
        given = folder / "takes" if takes else None
        for word in group if takes else []:
            shutil.rmtree(folder / "takes" / word, ignore_errors=True)
            (folder / "takes" / word).mkdir(parents=True)
            for path in clips[word].takes[:takes]:
                clip = read_int16(path, SAMPLE_RATE)
                around = np.round(np.random.default_rng(0).normal(0, FAINT, SAMPLE_RATE // 2)).astype(np.int16)
                take = np.concatenate([around, clip, around])
                soundfile.write(folder / "takes" / word / path.with_suffix(".wav").name, take, SAMPLE_RATE)
        began, worked = time.perf_counter(), sum(os.times()[:4])
        speech = [options.data / "speech" / f"{part}.csv" for part in ("train", "calibrate")]
        new(group, folder, takes=given, negative_places=speech, language=options.language, seed=seed,
            workers=options.workers)  # fmt: skip
        seconds = time.perf_counter() - began
        print(f"{name}: made in {seconds:.0f} s, {sum(os.times()[:4]) - worked:.0f} s of processors")
    kept = folder / "measured.json"
    if kept.is_file():
        return list(json.loads(kept.read_text()))
    spotter, rows = SpotterModel(model), []
    heard, own = score_recordings(spotter, None, speech=options.data / "speech/check.csv", workers=options.workers)
    points = [own.with_thresholds(spotter.detector_at(rate).thresholds) for rate in PROMISES]
    alarms = [operating_point(heard, outcome) for outcome in heard.outcomes(points)]
    for (word, kind, condition), place in sets.items():
        if word not in group:
            continue
        scored, _ = score_recordings(spotter, place, workers=options.workers)
        found = [operating_point(scored, outcome) for outcome in scored.outcomes(points)]
        rows.append(
            {"file": name, "words": len(group), "word": word, "takes": takes, "seed": seed, "kind": kind,
             "condition": condition, "clips": found[0]["events"], "hours": heard.negative_hours,
             "misses": {f"{rate:g}": [at["misses"], *at["frr_interval"]]
                        for rate, at in zip(PROMISES, found, strict=True)},
             "false_alarms": {f"{rate:g}": [at["false_alarms"], *at["fa_interval"]]
                              for rate, at in zip(PROMISES, alarms, strict=True)}}
        )  # fmt: skip
    kept.write_text(json.dumps(rows))
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Markdown: misses in % at each promise, for all words of a file together, and the false alarms that were heard."""
    print("| word | words in file | takes | seed | recordings | misses % at " + " / ".join(f"{p:g}" for p in PROMISES)
          + " promised FA/h (95 % at 0.5) | false alarms heard (hours) |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for row in rows:
        misses = " / ".join(f"{100 * row['misses'][f'{p:g}'][0] / row['clips']:.1f}" for p in PROMISES)
        low, high = row["misses"]["0.5"][1:]
        alarms = " / ".join(str(row["false_alarms"][f"{p:g}"][0]) for p in PROMISES)
        print(
            f"| {row['word']} | {row['words']} | {row['takes']} | {row['seed']} | {row['clips']} {row['kind']}, "
            f"{row['condition']} | {misses} ({100 * low:.0f} to {100 * high:.0f}) | {alarms} ({row['hours']:.2f} h) |"
        )


if __name__ == "__main__":
    main()
