"""Mining: the places where a model that hears tones as keywords finds them in an hour of anything else."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from kws.data.speech import RunningSpeech, SpeechLanes
from kws.evaluation.heard_false import false_alarms, keyword_evidence, misses_at

RATE, FRAME = 8000, 80
LABELS = ("_silence_", "_unknown_", "yes", "no")


class TonesOf:
    """Clips of "no", each as loud as its level says for as long as the window."""

    def __init__(self, levels):
        self.levels, self.labels = levels, np.full(len(levels), LABELS.index("no"))

    def waveforms(self, indices):
        clips = np.zeros((len(indices), 50 * FRAME), np.int16)
        clips[:, 20 * FRAME : 30 * FRAME] = np.round(32767 * self.levels[indices, None])
        return clips


class Loud(torch.nn.Module):
    """A spotter whose "no" is as probable as a frame is loud."""

    labels, frame_length, pool_frames = LABELS, FRAME, 10
    frontend_config = SimpleNamespace(sample_rate=RATE)

    def __init__(self):
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(1))

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 1)

    def forward(self, waveform, state):
        level = waveform.reshape(len(waveform), -1, FRAME).square().mean(2).sqrt()
        logits = torch.zeros(*level.shape, len(LABELS))
        logits[..., LABELS.index("yes")] = -20
        logits[..., LABELS.index("no")] = 10 * level - 5
        return logits, state


def speech(tmp_path, places, seconds=400):
    sound = np.random.default_rng(0).normal(0, 0.01, seconds * RATE)
    for loudness, place in places:
        sound[place : place + 10 * FRAME] = loudness
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech" / "a.wav", sound, RATE)
    return RunningSpeech(tmp_path / "speech", RATE, tmp_path / "cache", "data.speech", LABELS, progress=False)


def test_the_loudest_places_come_first(tmp_path):
    places = [(0.3, 120_000), (0.9, 1_040_000), (0.6, 2_560_000)]
    found = false_alarms(Loud(), speech(tmp_path, places), 3)[0]
    expected = np.array([1_040_000, 2_560_000, 120_000])
    assert ((found > expected) & (found <= expected + 10 * FRAME)).all()


def test_a_keyword_that_the_text_says_is_passed_over_but_in_command_mode(tmp_path):
    speech(tmp_path, [(0.9, 1_040_000)])
    (tmp_path / "speech" / "transcripts.csv").write_text('file,text\na.wav,"No, thank you"\n')
    source = RunningSpeech(tmp_path / "speech", RATE, tmp_path / "cache", "data.speech", LABELS, progress=False)
    assert abs(int(false_alarms(Loud(), source, 1, command_mode=True)[0][0]) - 1_040_000) <= 10 * FRAME
    assert abs(int(false_alarms(Loud(), source, 1)[0][0]) - 1_040_000) > 10 * FRAME


def test_evidence_equals_numpy():
    logits = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    keywords = torch.tensor([[False, False, True, True]]).expand(2, -1)
    found = keyword_evidence(logits, keywords, ~keywords, 7).numpy()
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    for t in range(30):
        mean = p[:, max(0, t - 6) : t + 1].mean(1)
        np.testing.assert_allclose(found[:, t], np.log(mean[:, 2:].max(1) / mean[:, :2].sum(1)), rtol=1e-4, atol=1e-4)


def test_misses_are_counted_at_a_threshold_that_the_tail_of_false_alarms_gives(tmp_path):
    """Of a hundred loud places as an exponential tail has them, and clips from soft to loud."""
    loudness = -0.05 * np.log((np.arange(100) + 0.5) / 100) + 0.4
    source = speech(tmp_path, [(level, 20_000 + 30_000 * i) for i, level in enumerate(loudness)])
    levels = np.linspace(0.3, 0.99, 70)
    clips = TonesOf(levels)
    fa_per_hour = 30 / source.hours
    threshold = 0.4 - 0.05 * np.log(30 / 100)  # 30 of the 100 are louder
    assert misses_at(fa_per_hour, Loud(), source, clips) == pytest.approx((levels < threshold).mean(), abs=0.03)


def test_half_of_the_runs_hold_a_mined_place(tmp_path):
    source = speech(tmp_path, [(0.9, 1_000_000)])
    drawn = SpeechLanes(source, 4, 2, 3, RATE, 0.1, 0.0, np.random.default_rng(0), np.array([1_000_000 + FRAME]))
    loud, runs = 0, 0
    for _ in range(300):
        _, fresh, clips, _ = drawn.advance()
        runs += int(fresh.sum())
        loud += int((np.abs(clips).max(axis=1) > 20000).sum())
    assert 0.35 < loud / runs < 0.65
