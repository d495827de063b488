"""Made rooms: their decay and their direct sound by definition, convolution against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from kws.recordings.echo import convolved, decaying_room


def test_a_room_decays_by_60_db_in_its_time() -> None:
    room = decaying_room(np.random.default_rng(0), 0.5, 6.0, 16000)
    assert len(room) == 8000
    assert room[0] == 1
    assert not room[1:48].any()
    assert 10 * np.log10(np.square(room[1:]).sum()) == pytest.approx(-6, abs=0.3)
    early, late = np.square(room[400:1200]).mean(), np.square(room[4400:5200]).mean()  # a quarter of a second apart
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=1.5)


def test_convolution() -> None:
    rng = np.random.default_rng(1)
    dry, room = rng.normal(size=3001).astype(np.float32), rng.normal(size=777).astype(np.float32)
    np.testing.assert_allclose(convolved(dry, room), np.convolve(dry, room)[:3001], atol=1e-3)
