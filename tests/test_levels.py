"""Levels against known answers: sines, squares, and mixtures of known ratio."""

from __future__ import annotations

import numpy as np
import pytest

from kws.audio.levels import amplitude, dbfs, decibels, noise_gain, rms, saturated, to_int16


def sine(peak: float) -> np.ndarray:
    return peak * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)


def test_a_sine_of_full_scale_has_minus_3_dbfs() -> None:
    assert dbfs(sine(1.0)) == pytest.approx(-3.0103, abs=1e-3)
    assert dbfs(to_int16(sine(0.5))) == pytest.approx(-9.031, abs=1e-3)
    assert np.isneginf(dbfs(np.zeros(10)))


def test_rms_is_taken_over_the_last_axis_without_overflow() -> None:
    loud = np.full((2, 3, 1000), -32768, np.int16)
    np.testing.assert_array_equal(rms(loud), np.full((2, 3), 32768.0))


def test_decibels_and_amplitudes_are_inverse() -> None:
    levels = np.array([-60.0, -6.0, 0.0, 20.0])
    np.testing.assert_allclose(amplitude(levels), [0.001, 0.501187, 1, 10], rtol=1e-6)
    np.testing.assert_allclose(decibels(amplitude(levels)), levels, atol=1e-9)


def test_noise_is_brought_below_the_signal() -> None:
    rng = np.random.default_rng(0)
    signals, noises = rng.normal(0, [[0.1], [0.3]], (2, 8000)), rng.normal(0, [[2.0], [0.01]], (2, 8000))
    mixed = noise_gain(signals, noises, 12.0)[:, None] * noises
    np.testing.assert_allclose(decibels(rms(signals) / rms(mixed)), 12.0, atol=1e-4)
    assert np.isfinite(noise_gain(signals, np.zeros((2, 8000)), 12.0)).all()


def test_full_scale_is_clipped_and_the_rest_rounded() -> None:
    assert to_int16(np.array([0.5, 1.5, -1.5, 1.0, -1.0])).tolist() == [16384, 32767, -32768, 32767, -32768]
    assert saturated(np.array([0.4, -0.6, 40000.0])).tolist() == [0, -1, 32767]
