"""Checkpoints: whole or not there, and clear about what they are not."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kws.config import FrontendConfig, RecurrentConfig
from kws.model.checkpoint import CheckpointError, load_checkpoint, read_header, read_tensors, save_checkpoint
from kws.model.spotter import KeywordSpotter


@pytest.fixture
def spotter():
    torch.manual_seed(0)
    model = RecurrentConfig(hidden_size=8, conv_channels=[4], conv_kernel=3, projection_size=6)
    spotter = KeywordSpotter(FrontendConfig(f_max=7000), model, ("_silence_", "yes"))
    spotter.fit_normalization([torch.randn(4, 1600)])
    return spotter.eval()


def test_round_trip(spotter, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, spotter, extra={"raw.x": torch.ones(2)}, info={"epoch": 3})
    loaded, header = load_checkpoint(path)
    assert header["info"] == {"epoch": 3}
    assert loaded.labels == spotter.labels
    assert loaded.frontend_config == spotter.frontend_config
    assert loaded.model_config == spotter.model_config
    waveform, state = torch.randn(1, 3200), spotter.initial_state(1)
    torch.testing.assert_close(loaded(waveform, state)[0], spotter(waveform, state)[0], rtol=0, atol=0)
    torch.testing.assert_close(read_tensors(path, "raw."), {"x": torch.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failed_write_leaves_the_old_file(spotter, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, spotter, info={"epoch": 1})

    def full(partial, content):
        with partial.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space is left"):
        save_checkpoint(path, spotter, info={"epoch": 2})
    assert read_header(path)["info"] == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_files_that_are_no_checkpoints(spotter, tmp_path):
    missing, junk, other, old = (tmp_path / name for name in ("missing", "junk", "other", "old"))
    junk.write_bytes(b"not a checkpoint at all")
    save_file({"x": torch.ones(1)}, other)
    save_file({"x": torch.ones(1)}, old, metadata={"kws": '{"kws_format": 0, "kws_version": "0.0.1"}'})
    for path, message in (
        (missing, "missing does not exist"),
        (junk, "junk is not a safetensors file"),
        (other, "other was not written by kws"),
        (old, "format 0 .kws 0.0.1.; this is kws"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)


def test_truncated_checkpoint(spotter, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, spotter)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_their_options(spotter, tmp_path):
    path = tmp_path / "a.safetensors"
    spotter.model_config.hidden_size = 9
    save_checkpoint(path, spotter)
    with pytest.raises(CheckpointError, match="do not fit together"):
        load_checkpoint(path)
