"""The statistics of TensorFlow's `test_streaming_accuracy` (examples/speech_commands), to compare with published ones.

Written anew after its description: scores of one-second clips every 30 ms are averaged over 500 ms; the label with the
highest average, above 0.7, is found when it differs from the last one and comes 500 ms after it; a found label and a
true one belong together within 1500 ms. Times are those of the clips' starts; a true clip is the second around a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kws.config import SILENCE
from kws.recordings.labels import Event
from kws.system.arrays import Float64

CLIP, STRIDE, WINDOW, SUPPRESSION, TOLERANCE, THRESHOLD, MINIMUM = 1.0, 0.03, 0.5, 0.5, 1.5, 0.7, 4


class TfCounts(NamedTuple):
    """How many words there are, how many were found as such, as another, and how many found where none is."""

    words: int
    correct: int
    wrong: int
    false_positive: int

    def percentages(self) -> dict[str, float]:
        """As the tool prints them; matched is correct and wrong together."""
        share = {name: 100 * count / self.words for name, count in self._asdict().items() if name != "words"}
        return {"matched": share["correct"] + share["wrong"], **share}


def found_words(
    posteriors: Float64, frame_seconds: float, labels: Sequence[str], ignored: Sequence[str] = (SILENCE,)
) -> list[tuple[str, float]]:
    """Labels and times found in the clip scores `[T, K]` at the end of each frame."""
    n_clips = max(0, int((len(posteriors) * frame_seconds - CLIP) / STRIDE))
    frames = np.round((np.arange(n_clips) * STRIDE + CLIP) / frame_seconds).astype(int) - 1
    span = int(WINDOW / STRIDE + 1e-9) + 1  # scores that are at most WINDOW old
    sums = np.cumsum(np.concatenate([np.zeros((1, len(labels))), posteriors[frames]]), axis=0)
    first = np.maximum(0, np.arange(n_clips) + 1 - span)
    average = (sums[1:] - sums[first]) / (np.arange(n_clips) + 1 - first)[:, None]
    top, score = average.argmax(axis=1), average.max(axis=1)
    last_label, last_time, found = SILENCE, -np.inf, []
    for i in np.flatnonzero(score > THRESHOLD).tolist():
        label, time = labels[top[i]], i * STRIDE
        enough = i + 1 >= MINIMUM and time >= WINDOW / 4
        if enough and label != last_label and (last_label == SILENCE or time - last_time > SUPPRESSION):
            last_label, last_time = label, time
            if label not in ignored:
                found.append((label, time))
    return found


def tf_counts(found: Sequence[tuple[str, float]], events: Sequence[Event]) -> TfCounts:
    """Compare what was found with what was said, in the tool's way: with the earliest word within the tolerance."""
    truth = sorted(((event.onset + event.offset - CLIP) / 2, event.keyword) for event in events)
    times = np.array([time for time, _ in truth])
    taken: set[int] = set()
    correct = wrong = false_positive = 0
    for label, time in found:
        i = int(np.searchsorted(times, time - TOLERANCE))
        if i == len(truth) or times[i] > time + TOLERANCE:
            false_positive += 1
            continue
        if truth[i][1] == label and i not in taken:
            correct += 1
        else:
            wrong += 1
        taken.add(i)
    return TfCounts(len(truth), correct, wrong, false_positive)
