"""What an encoder is worth: its phoneme error, and the scores that typed words reach where nobody says them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.data.decode import read_int16
from kws.encoder.sources import ENGLISH
from kws.recordings.speech import Utterance, pause
from kws.runtime.onnx_model import LogitStream, SpotterModel
from kws.runtime.phrases import REFRACTORY, PhraseScorer
from kws.speech.phonemes import distance, from_ipa, pronounce
from kws.system.arrays import Float32
from kws.system.progress import Stage
from kws.words.mixing import SAMPLE_RATE

WORDS_OF_LENGTH = 12  # that typed words' thresholds are chosen with, for each number of phonemes
LENGTHS = range(3, 13)  # phonemes
STEPS = np.arange(-4.0, 0.0, 0.02)  # of scores


def phoneme_error(logits: Sequence[Float32], said: Sequence[Sequence[str]], labels: Sequence[str]) -> float:
    """Phonemes put in, left out and changed for each one said, of the likeliest label in each frame (blank: 0)."""
    wrong = total = 0
    for rows, phonemes in zip(logits, said, strict=True):
        best = rows.argmax(axis=-1)
        kept = best[(best != 0) & (np.diff(best, prepend=0) != 0)]
        wrong += distance([labels[i] for i in kept], phonemes)
        total += len(phonemes)
    return wrong / max(1, total)


def heard_phonemes(model: SpotterModel, paths: Sequence[Path]) -> list[Float32]:
    """The logits of files, each from the zero state."""
    stream, found = LogitStream(model), []
    for path in paths:
        rows = stream.feed(read_int16(path, SAMPLE_RATE))
        found.append(np.concatenate([rows, stream.feed(pause(SAMPLE_RATE)), stream.flush()]))
    return found


def typed_thresholds(
    model: SpotterModel, speech: Sequence[Utterance], fa_per_hour: float, rng: np.random.Generator
) -> list[float]:
    """Of words of one phoneme, of two, and so on: what they must reach to be heard so often where nobody says them.

    speech: utterances with their texts, as one stream. Words are drawn from the English texts; where one is said, it is
    passed over. Raises nothing of its own.
    """
    numbers = {label: number for number, label in enumerate(model.labels)}
    english = [text.lower() for _, text in speech if ENGLISH.fullmatch(text.lower())]
    lexicon = sorted({word for text in english for word in text.split() if word.isalpha()})
    by_length: Mapping[int, list[tuple[str, list[int]]]] = defaultdict(list)
    for word, ipa in zip(lexicon, pronounce(lexicon), strict=True):
        by_length[len(from_ipa(ipa))].append((word, [numbers[name] for name in from_ipa(ipa)]))
    chosen = [by_length[n][i] for n in LENGTHS for i in rng.permutation(len(by_length[n]))[:WORDS_OF_LENGTH].tolist()]
    seconds = model.frame_length / model.sample_rate
    scorer = PhraseScorer([phonemes for _, phonemes in chosen], 0, seconds)
    lengths = scorer.lengths
    counts = np.zeros((len(chosen), len(STEPS)))
    wait, hours = round(REFRACTORY / seconds), 0.0
    stream = LogitStream(model)
    with Stage("thresholds of typed words", len(speech), "file") as stage:
        for path, text in speech:
            logits = np.concatenate([stream.feed(read_int16(path, SAMPLE_RATE)), stream.feed(pause(SAMPLE_RATE))])
            scores = np.array([scorer.step(row)[0] for row in logits])
            words = set(text.lower().split())
            unsaid = np.array([word not in words for word, _ in chosen])
            peaks = np.maximum.reduceat(scores, np.arange(0, len(scores), wait), axis=0)  # at most one in that time
            counts += (peaks[:, :, None] >= STEPS).sum(axis=0) * unsaid[:, None]
            hours += len(scores) * seconds / 3600
            stage.advance()
    thresholds = np.zeros(max(LENGTHS))
    for n in LENGTHS:
        mean = counts[lengths == n].mean(axis=0) / hours
        allowed = np.flatnonzero(mean <= fa_per_hour)
        thresholds[n - 1] = STEPS[allowed[0]] if len(allowed) else STEPS[-1]
    thresholds[: LENGTHS[0] - 1] = thresholds[LENGTHS[0] - 1]
    return [round(float(np.exp(value)), 4) for value in np.minimum.accumulate(thresholds)]
