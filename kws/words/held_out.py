"""Words by voices that were not trained on, in scenes one after another: a recording set to count misses in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from kws.recordings.labels import COLUMNS, LABELS_FILE
from kws.system.atomic import whole_folder
from kws.words.mixing import SAMPLE_RATE, Mixer
from kws.words.speak import read_spoken

SECONDS = 4.0  # of a scene
FILE = "held-out.wav"


def write_held_out(spoken: Sequence[Path], keywords: Sequence[str], folder: Path, most: int, seed: int) -> int:
    """Put at most `most` scenes of each word of the files of clips into `folder`; how many there are."""
    mixer = Mixer(np.random.default_rng(seed), [])
    clips = [
        (clip, label)
        for path in spoken
        for clip, label, repeat in zip(*read_spoken(path), strict=True)
        for _ in range(int(repeat))
    ]
    left = dict.fromkeys(range(len(keywords)), most)
    sounds, rows, start = [], [], 0
    for clip, label in clips:
        if label < 0 or not left[int(label)] or not len(clip):
            continue
        left[int(label)] -= 1
        scene = mixer.scene(clip, SECONDS)
        times = [round((start + at) / SAMPLE_RATE, 4) for at in (scene.onset, scene.offset)]
        rows.append([FILE, *times, keywords[int(label)]])
        sounds.append(scene.samples)
        start += len(scene.samples)
    with whole_folder(folder, "--output") as partial:
        soundfile.write(partial / FILE, np.concatenate(sounds), SAMPLE_RATE)
        with (partial / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return len(rows)
