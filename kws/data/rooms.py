"""A folder of recorded noise, and one of impulse responses of rooms, as augmentation takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kws.data.decode import read_int16
from kws.errors import DataError
from kws.recordings.speech import read_speech
from kws.system.arrays import Float32, Int16

LONGEST = 0.5  # s of a response that are kept; what is later is faint, and its cost grows with its length
PEAK_SHARE = 0.3  # the direct sound is the first sample that reaches this share of the highest
BEFORE = 0.002  # s kept before the direct sound


def read_noise(folder: str, sample_rate: int, setting: str) -> Int16:
    """All recordings below `folder` in one, int16 `[M]`; `setting` is the option that names it.

    Raises `ValueError` for a folder without audio.
    """
    paths = [path for path, _ in read_speech(Path(folder).expanduser(), setting)]
    return np.concatenate([read_int16(path, sample_rate) for path in paths])


def read_responses(folder: str, sample_rate: int, setting: str) -> Float32:
    """The impulse responses below `folder`, float32 `[R, L]`: from 2 ms before the direct sound, energy 1 each.

    `setting` is the option that names it. Raises `ValueError` for a folder without audio, and for a response that is
    digital silence.
    """
    length = round(LONGEST * sample_rate)
    paths = [path for path, _ in read_speech(Path(folder).expanduser(), setting)]
    responses = np.zeros((len(paths), length), np.float32)
    for row, path in zip(responses, paths, strict=True):
        sound = read_int16(path, sample_rate).astype(np.float32)
        if not sound.any():
            raise DataError(f"{path} is silent, so it is no impulse response; take it out of {setting}")
        direct = int(np.argmax(np.abs(sound) >= PEAK_SHARE * np.abs(sound).max()))
        sound = sound[max(0, direct - round(BEFORE * sample_rate)) :][:length]
        row[: len(sound)] = sound / np.sqrt(np.square(sound).sum())
    return responses
