"""BC-ResNet against the paper's figures, numpy and plain convolutions; and whole clips where others stream."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from composing import compose_config
from hydra.errors import HydraException
from safetensors.torch import load_file, save_file
from tone_words import WORDS, write_tone_words

from kws import cli
from kws.config import BCResNetConfig, FolderConfig, FrontendConfig, RecurrentConfig, model_from_dict
from kws.evaluate import EvaluateConfig, evaluate
from kws.model import bcresnet
from kws.model.bcresnet import BroadcastedBlock, BroadcastedClassifier, SubSpectralNorm
from kws.model.checkpoint import load_checkpoint, read_header, save_checkpoint
from kws.model.layer import Layer
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.operations import multiplications_per_second

LABELS = ("_silence_", "_unknown_", "yes", "no")


def config(**options):
    return BCResNetConfig(**options)


def make(frontend=None, labels=LABELS, **options):
    torch.manual_seed(0)
    return liven(KeywordSpotter(frontend or FrontendConfig(), config(**options), labels))


def liven(module):
    """Give every normalisation statistics, scale and shift that can be told from its first ones."""
    for norm in (m for m in module.modules() if isinstance(m, SubSpectralNorm)):
        for values, low, high in ((norm.weight, 0.5, 2), (norm.bias, -0.5, 1), (norm.running_mean, -0.2, 0.2)):
            torch.nn.init.uniform_(values, low, high)
        torch.nn.init.uniform_(norm.running_var, 0.1, 1)
    return module.eval()


def depthwise(x, weight, kernel, **options):
    return F.conv2d(x, weight.reshape(-1, 1, *kernel), groups=len(weight), **options)


def pointwise(x, weight):
    return F.conv2d(x, weight[:, :, None, None])


def normalised(x, norm):
    """`[B, C, F, T]`, each of the norm's channels a run of frequencies of a channel of x."""
    repeats = x.shape[1] * x.shape[2] // norm.num_features
    values = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, var, scale, shift = (v.repeat_interleave(repeats).reshape(1, *x.shape[1:3], 1) for v in values)
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def block_by_convolutions(block, x, dilation, stride):
    """The paper's block on `[B, C, F, T]`."""
    *enter, over_frequency, norm = block.f2
    y = torch.relu(normalised(pointwise(x, enter[0].weight), enter[1])) if enter else x
    y = normalised(depthwise(y, over_frequency.weight, (3, 1), stride=(stride, 1), padding=(1, 0)), norm)
    over_time, norm, _, mix, _ = block.f1
    z = depthwise(y.mean(2, keepdim=True), over_time.weight, (1, 3), padding=(0, dilation), dilation=(1, dilation))
    z = pointwise(F.silu(normalised(z, norm)), mix.weight)
    return torch.relu(y + z + (0 if enter else x))


@pytest.mark.parametrize(("width", "thousands"), [(1, 9.2), (2, 27.3), (3, 54.2), (8, 321)])
def test_as_many_parameters_as_in_the_paper(width, thousands):
    classifier = BroadcastedClassifier(40, 12, config(width=width))
    assert sum(p.numel() for p in classifier.parameters()) / 1000 == pytest.approx(thousands, rel=0.005)


def test_the_yaml_is_bc_resnet_1():
    composed = compose_config("train", ["model=bcresnet1"])
    assert composed.model == config()
    spotter = KeywordSpotter(composed.frontend, composed.model, [str(i) for i in range(12)])
    assert spotter.n_parameters == 9232  # also the count in SparkNet's table of rivals (Interspeech 2024)


@torch.no_grad()
@pytest.mark.parametrize(("in_channels", "stride", "dilation"), [(8, 1, 2), (6, 2, 1), (6, 1, 8)])
def test_a_block_equals_plain_convolutions(in_channels, stride, dilation):
    torch.manual_seed(0)
    block = liven(BroadcastedBlock(in_channels, 8, 20, stride, dilation, dropout=0.5))
    x = torch.randn(3, in_channels, 20, 30)
    expected = block_by_convolutions(block, x, dilation, stride)
    torch.testing.assert_close(block(x.permute(1, 2, 0, 3)).permute(2, 0, 1, 3), expected)
    assert expected.shape == (3, 8, 20 // stride, 30)


@torch.no_grad()
def test_the_network_is_the_papers_table():
    torch.manual_seed(0)
    net = liven(BroadcastedClassifier(40, 12, config()))
    features = torch.randn(2, 50, 40)
    x = F.conv2d(features.transpose(1, 2)[:, None], net.stem.weight, stride=(2, 1), padding=2)
    x = torch.relu(normalised(x, net.stem_norm))
    dilations = [1] * 2 + [2] * 2 + [4] * 4 + [8] * 4
    shapes = []
    for i, (block, dilation) in enumerate(zip(net.blocks, dilations, strict=True)):
        x = block_by_convolutions(block, x, dilation, 2 if i in (2, 4) else 1)
        shapes.append(x.shape[1:3])
    assert shapes == [(8, 20)] * 2 + [(12, 10)] * 2 + [(16, 5)] * 4 + [(20, 5)] * 4
    x = depthwise(x, net.tail.weight, (5, 5), padding=(0, 2))
    assert x.shape == (2, 20, 1, 50)
    x = torch.relu(normalised(pointwise(x, net.mix[0].weight), net.mix[1])).mean((2, 3))
    expected = x @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(net(features), expected[:, None])
    assert (expected[0] - expected[1]).abs().max() > 0.01
    assert not isinstance(net, Layer)


def test_sub_spectral_norm_equals_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 10, 4, 7)) * rng.uniform(0.5, 3, (3, 10, 1, 1)) + rng.normal(size=(3, 10, 1, 1))
    expected = np.empty_like(x)
    for channel in range(3):
        for band in range(5):
            part = x[channel, 2 * band : 2 * band + 2]
            expected[channel, 2 * band : 2 * band + 2] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    norm = SubSpectralNorm(3).double()
    np.testing.assert_allclose(norm(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-9)


@torch.no_grad()
def test_what_goes_through_time_is_the_same_at_every_frequency():
    torch.manual_seed(0)
    block = liven(BroadcastedBlock(8, 8, 20, 1, 1, dropout=0.0))
    x, seen = torch.randn(8, 20, 2, 30), []
    block.f1.register_forward_hook(lambda module, given, result: seen.append(result))
    whole = block(x)
    assert seen[0].shape == (8, 1, 2, 30)
    # A change at one frame and one frequency is felt at other frames, there equally at all frequencies.
    before, x[:, 3, :, 15] = x.clone(), 5.0
    block(x)
    change = seen[1] - seen[0]
    assert change[..., 14].abs().min() > 0
    torch.testing.assert_close(whole, torch.relu(before + block.f2(before) + seen[0].expand(8, 20, 2, 30)))


def test_dropout_takes_whole_channels():
    torch.manual_seed(0)
    drop = bcresnet.ChannelDropout(0.25)
    y = drop(torch.ones(50, 1, 40, 6))
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(y.amin(3), y.amax(3))
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(drop.eval()(y), y)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_one_frame_of_logits_for_a_clip_of_any_length(pooling):
    spotter = make(pooling=pooling)
    for n_samples in (8000, 16000):
        logits, state = spotter(torch.randn(3, n_samples) * 0.1, spotter.initial_state(3))
        assert logits.shape == (3, 1, 4)
        assert state.shape == (3, spotter.frontend.state_size)
        torch.testing.assert_close(spotter.pool(logits), logits[:, 0].log_softmax(-1))


@torch.no_grad()
def test_clips_do_not_mix():
    spotter = make()
    waveform = torch.randn(3, 8000) * 0.1
    together, _ = spotter(waveform, spotter.initial_state(3))
    for i in range(3):
        alone, _ = spotter(waveform[i : i + 1], spotter.initial_state(1))
        torch.testing.assert_close(together[i : i + 1], alone)


def test_it_learns_glides_up_and_down():
    torch.manual_seed(0)
    net = BroadcastedClassifier(40, 2, config())
    labels = torch.arange(16) % 2
    up = 2 * torch.exp(-(((torch.arange(40) - 2 * torch.arange(20)[:, None]) / 3) ** 2))
    glides = torch.stack([up, up.flip(0)])[labels]
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    for _ in range(30):
        features = glides + 0.5 * torch.randn(16, 20, 40)
        loss = F.cross_entropy(net(features)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    unseen = glides + 0.5 * torch.randn(16, 20, 40)
    assert (net.eval()(unseen)[:, 0].argmax(1) == labels).float().mean() > 0.9


def test_options_out_of_range():
    with pytest.raises(ValueError, match=r"model\.width is 0\.1"):
        BCResNetConfig(width=0.1)


@pytest.mark.parametrize("overrides", [["model=bcresnet1", "model.cell=gru"], ["model=small", "model.width=2"]])
def test_each_architecture_has_its_own_options(overrides):
    with pytest.raises(HydraException, match=overrides[1].split("=")[0]):
        compose_config("train", overrides)


@pytest.mark.parametrize("model", [BCResNetConfig(width=2), RecurrentConfig(cell="gru", conv_channels=[3])])
def test_options_come_back_from_a_file(model):
    values = json.loads(json.dumps(model.to_dict()))
    assert model_from_dict(values) == model
    # Earlier files hold the options of both.
    before = {**RecurrentConfig().to_dict(), **BCResNetConfig(width=3).to_dict(), **values}
    assert model_from_dict(before) == model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "transformer"}, "choose one of recurrent, speech_embedding, bcresnet"),
        ({"architecture": "bcresnet", "heads": 2}, "no option heads; bcresnet has dropout, pool_ms, pooling, width"),
        ({"width": 1.0, "hidden_size": 0}, "hidden_size is 0"),
    ],
)
def test_options_of_a_file_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        model_from_dict(values)


def test_features_that_do_not_divide():
    with pytest.raises(ValueError, match="20 is not a multiple of 40"):
        make(FrontendConfig(kind="mfcc"))


def test_multiplications_are_those_of_the_convolutions(monkeypatch):
    """By hand, with one block, at 40 frames a second; a recurrent model alike."""
    monkeypatch.setattr(bcresnet, "STAGES", ((8, 1, 2, 2),))
    frontend = FrontendConfig(hop_ms=25)
    features = 400 * 256 + 256 + 256 * 40 + 40  # DFT to 128 bins, squares, 40 bands, normalisation
    # Outputs a frame, and multiplications of each; SiLU counts as one. The first tap over frequency falls on padding.
    outputs = [(16 * 20, 25), (8 * 20, 16), (8 * (3 * 10 - 1), 1), (8, 3 + 1 + 8), (8 * 6, 25), (32 * 6, 8)]
    classifier = 40 * sum(number * each for number, each in outputs) + 32 * 4
    assert multiplications_per_second(make(frontend)) == 40 * features + classifier
    lstm = RecurrentConfig(hidden_size=4, conv_channels=[], time_stride=1, projection_size=0)
    cell_and_head = 4 * 4 * (40 + 4) + 3 * 4 + 4 * 4
    recurrent = KeywordSpotter(frontend, lstm, LABELS).eval()
    assert multiplications_per_second(recurrent) == 40 * (features + cell_and_head)


def test_a_checkpoint_round_trip(tmp_path):
    spotter = make(width=1.5)
    save_checkpoint(tmp_path / "b.safetensors", spotter)
    loaded, _ = load_checkpoint(tmp_path / "b.safetensors")
    waveform, state = torch.randn(2, 8000), spotter.initial_state(2)
    torch.testing.assert_close(loaded(waveform, state), spotter(waveform, state), rtol=0, atol=0)


def test_a_checkpoint_from_before_there_were_two_architectures(tmp_path):
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, KeywordSpotter(FrontendConfig(), RecurrentConfig(hidden_size=8), LABELS))
    header, tensors = read_header(path), load_file(path)
    del header["model"]["architecture"]
    for name, before in (("mean", "feature_mean"), ("std", "feature_std")):
        tensors[f"model.{before}"] = tensors.pop(f"model.normalize.{name}")
    save_file(tensors, path, metadata={"kws": json.dumps(header)})
    loaded, _ = load_checkpoint(path)
    assert loaded.model_config == RecurrentConfig(hidden_size=8)


def test_export_ends_in_one_sentence(tmp_path, capsys):
    path = tmp_path / "b.safetensors"
    save_checkpoint(path, make())
    assert cli.main(["export", str(path)]) == 1
    assert capsys.readouterr().err == (
        "error: bcresnet hears whole clips and cannot be streamed; export a recurrent model, e.g. model=small\n"
    )
    assert not list(tmp_path.glob("*.onnx*"))


def test_evaluate_gives_isolated_accuracy_and_says_why(tmp_path, capsys):
    words = write_tone_words(tmp_path / "words", speakers=10, takes=1)
    source = FolderConfig(root=str(words), cache_dir=str(tmp_path / "cache"), label_set="all", workers=1)
    path = tmp_path / "b.safetensors"
    save_checkpoint(path, make(labels=tuple(sorted(WORDS))))
    report = evaluate(EvaluateConfig(str(path), source, split="train", snr_db=[], output=str(tmp_path / "out")))
    assert list(report["accuracy"]) == ["isolated"]
    assert "onnxruntime_differs" not in report
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert "isolated clips only: this model hears whole clips" in capsys.readouterr().out
