"""Small audio files and data sets for the tests of kws.data."""

import hashlib
from pathlib import Path

import numpy as np
import soundfile

from kws.data.splits import hash_split

RATE = 16000


def tone(frequency, seconds=1.0, rate=RATE, amplitude=0.3):
    """float64 [S]."""
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write(path, samples, rate=RATE, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype)
    return path


def speakers(split, count):
    """Speaker names that the official rule puts into `split`."""
    names = (hashlib.sha1(str(i).encode()).hexdigest()[:8] for i in range(10000))
    found = [name for _, name in zip(range(400), names, strict=False) if hash_split(name) == split]
    return found[:count]


def write_words(root, words, train=4, held_out=2, noise=True):
    """Each word a tone of its own, by different speakers in the three splits; returns `root`."""
    for number, word in enumerate(words):
        for split, count in (("train", train), ("validation", held_out), ("test", held_out)):
            for k, speaker in enumerate(speakers(split, count)):
                write(Path(root) / word / f"{speaker}_nohash_0.wav", tone(300 + 100 * number + 7 * k, 0.9))
    if noise:
        rng = np.random.default_rng(0)
        for name in ("hiss", "tap"):
            write(Path(root) / "_background_noise_" / f"{name}.wav", 0.1 * rng.standard_normal(20 * RATE))
    return Path(root)
