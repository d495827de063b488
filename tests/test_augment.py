"""Augmentation: each part does what it says, and nothing when it is off."""

import numpy as np
import pytest
import torch

from kws.config import AugmentConfig
from kws.training.augment import FeatureMasker, WaveformAugmenter, WaveformParameters, echo, resample_and_shift

RATE, N = 16000, 16000
OFF = {"shift_ms": 0, "gain_db": 0, "speed": 0, "noise_probability": 0, "fade_ms": 0, "freq_masks": 0, "time_masks": 0}


def augmenter(noise=None, **values):
    noise = torch.randn(5 * N, generator=torch.Generator().manual_seed(1)) * 0.05 if noise is None else noise
    return WaveformAugmenter(AugmentConfig(**{**OFF, **values}), RATE, noise)


def clips(n=4):
    return torch.randn(n, N, generator=torch.Generator().manual_seed(0)) * 0.1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_everything_off_changes_nothing():
    torch.testing.assert_close(augmenter()(clips(), generator()), clips())


def test_same_generator_same_result():
    parts = augmenter(shift_ms=100, gain_db=10, speed=0.1, noise_probability=0.8, fade_ms=5)
    first, again = parts(clips(), generator()), parts(clips(), generator())
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, parts(clips(), generator(1)))


def test_shift_moves_whole_samples_and_fills_with_zeros():
    moved = resample_and_shift(clips(2), torch.ones(2), torch.tensor([3.0, -5.0]))
    torch.testing.assert_close(moved[0, 3:], clips(2)[0, :-3], rtol=0, atol=1e-3)
    torch.testing.assert_close(moved[1, :-5], clips(2)[1, 5:], rtol=0, atol=1e-3)
    assert moved[0, :3].abs().max() < 1e-3
    assert moved[1, -5:].abs().max() < 1e-3


def test_speed_raises_the_pitch_by_its_factor():
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(N) / RATE)[None]
    faster = resample_and_shift(tone, torch.tensor([1.1]), torch.zeros(1))[0]
    spectrum = np.abs(np.fft.rfft(faster.numpy() * np.hanning(N)))
    assert abs(spectrum.argmax() - 550) <= 1


def test_speed_equals_numpy_interpolation():
    slower = resample_and_shift(clips(1), torch.tensor([0.9]), torch.tensor([200.0]))[0]
    position = (np.arange(N) - (N - 1) / 2 - 200) * 0.9 + (N - 1) / 2
    expected = np.interp(position, np.arange(N), clips(1)[0].numpy(), left=0, right=0)
    inside = (position >= 0) & (position <= N - 1)
    np.testing.assert_allclose(slower.numpy()[inside], expected[inside], atol=1e-3)


def test_noise_is_added_at_the_drawn_snr():
    parts = augmenter(noise_probability=1.0, snr_db_min=10, snr_db_max=10)
    added = parts(clips(), generator()) - clips()
    snr = 20 * torch.log10(clips().square().mean(1).sqrt() / added.square().mean(1).sqrt())
    np.testing.assert_allclose(snr, 10, atol=0.1)


def test_noise_is_added_to_the_share_of_clips_asked_for():
    many = clips(1).expand(1000, -1)[:, :N]
    drawn = augmenter(noise_probability=0.3).draw(*many.shape, generator=generator())
    assert 0.24 < torch.isfinite(drawn.snr).float().mean() < 0.36


def test_digital_zero_stays_zero():
    parts = augmenter(noise_probability=1.0, gain_db=10, speed=0.1, shift_ms=50, fade_ms=5)
    assert parts(torch.zeros(3, N), generator()).abs().max() == 0


def test_gain_and_clipping():
    drawn = WaveformParameters(
        torch.ones(2), torch.zeros(2), torch.tensor([2.0, 100.0]), torch.full((2,), torch.inf), torch.zeros(2).long(),
        torch.full((2,), -1),
    )  # fmt: skip
    louder = augmenter(gain_db=40).apply(clips(2), drawn)
    torch.testing.assert_close(louder[0], clips(2)[0] * 2)
    assert louder[1].abs().max() == 1


def test_joins_do_not_click():
    loud = torch.full((2, N), 0.5)
    faded = augmenter(fade_ms=5)(loud, generator())
    joined = faded.flatten()
    assert joined.diff().abs().max() < 0.02
    torch.testing.assert_close(faded[:, 80:-80], loud[:, 80:-80])


def test_no_noise_recording_adds_none():
    parts = augmenter(noise=torch.empty(0), noise_probability=1.0)
    torch.testing.assert_close(parts(clips(), generator()), clips())


def test_noise_that_is_digital_silence_adds_nothing():
    parts = augmenter(noise=torch.zeros(2 * N), noise_probability=0.5)
    torch.testing.assert_close(parts(clips(), generator()), clips())


def test_echo_equals_numpy_convolution_at_the_clip_s_own_level():
    rooms = torch.randn(4, 3000, generator=generator(2)) * torch.exp(-torch.arange(3000) / 500)
    heard = echo(clips(), rooms)
    for clip, room, one in zip(clips().numpy(), rooms.numpy(), heard.numpy(), strict=True):
        expected = np.convolve(clip, room)[:N]
        expected *= np.sqrt(np.mean(clip**2) / np.mean(expected**2))
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_the_share_of_clips_asked_for_echoes():
    room = torch.zeros(1, 200)
    room[0, 150] = 1.0
    parts = WaveformAugmenter(AugmentConfig(**OFF, rir_probability=0.3), RATE, torch.empty(0), room)
    many = torch.randn(500, 400, generator=generator(3))
    heard = parts(many, generator())
    late = (heard[:, :100].abs().amax(1) < 1e-3).float()
    assert 0.24 < late.mean() < 0.36
    torch.testing.assert_close(heard[late == 0], many[late == 0].clamp(-1, 1))


def test_running_lanes_are_not_cut_from_what_they_heard_before():
    parts = augmenter(shift_ms=100, gain_db=10, speed=0.1, fade_ms=5)
    running = torch.tensor([True, False, True, False])
    heard = parts(clips(), generator(), running)
    torch.testing.assert_close(heard[running], clips()[running])
    assert not torch.allclose(heard[~running], clips()[~running])


def test_masks_are_within_their_widths():
    torch.manual_seed(0)
    features = torch.ones(200, 100, 40)
    masked = FeatureMasker(AugmentConfig(freq_masks=1, freq_mask_width=5, time_masks=1, time_mask_width=15))(features)
    bands = (masked == 0).all(1).sum(1)
    frames = (masked == 0).all(2).sum(1)
    assert bands.max() == 5 - 1 or bands.max() == 5
    assert 13 <= frames.max() <= 15
    assert len(bands.unique()) > 3


def test_masks_off_change_nothing():
    features = torch.randn(3, 100, 40)
    torch.testing.assert_close(FeatureMasker(AugmentConfig(**OFF))(features), features)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": 0.9}, "augment.speed is 0.9"),
        ({"noise_probability": 2}, "noise_probability is 2"),
        ({"snr_db_min": 10, "snr_db_max": 5}, "snr_db_min 10 is above"),
        ({"shift_ms": -1}, "shift_ms is -1"),
        ({"rir_probability": 1.5}, "rir_probability is 1.5"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**values)
