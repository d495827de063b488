"""How far back gradients reach: norm of d(loss at the last frame)/d(cell input), by distance in time, for rnn and lstm.

Trains `model=plain` with either cell, with and without gradient clipping, on the same batches; prints the numbers and
writes docs/gradient_flow.png. Usage: python scripts/gradient_flow.py [speech_commands root] [steps]
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import nn

from kws import data
from kws.config import FrontendConfig, RecurrentConfig, SpeechCommandsConfig, SyntheticConfig
from kws.data.batches import TrainBatches
from kws.model.spotter import KeywordSpotter

mpl.use("Agg")
import matplotlib.pyplot as plt

BATCH = 64


def plain(cell: str, labels: tuple[str, ...]) -> KeywordSpotter:
    torch.manual_seed(0)
    model = RecurrentConfig(cell=cell, hidden_size=112, conv_channels=[], time_stride=1, projection_size=0, dropout=0.0)
    return KeywordSpotter(FrontendConfig(), model, labels)


def last_frame_loss(spotter: KeywordSpotter, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits, _ = spotter.classifier(features, features.new_zeros(len(features), spotter.classifier.state_size))
    return nn.functional.cross_entropy(logits[:, -1], labels)


def gradient_by_distance(spotter: KeywordSpotter, features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Mean over clips of the gradient's norm at each frame, nearest frame first: float64 [T]."""
    features = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(last_frame_loss(spotter, features, labels) * len(features), features)
    return gradient.norm(dim=2).double().mean(0).flip(0).numpy()


def main() -> None:
    root = sys.argv[1] if len(sys.argv) > 1 else ""
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    source = SpeechCommandsConfig(root=root, download=False) if root else SyntheticConfig()
    corpus = data.load(source, 16000)
    batches = TrainBatches(corpus, source, BATCH, seed=0)
    reference = plain("lstm", corpus.labels)
    waveforms, labels = [], []
    for epoch in range(-(-(steps + 1) // batches.n_batches)):
        for batch in batches.epoch(epoch):
            waveforms.append(torch.from_numpy(batch.waveform.astype(np.float32) / 32768))
            labels.append(torch.from_numpy(batch.labels))
            if len(waveforms) > steps:
                break
    reference.fit_normalization(waveforms[:20])

    def features_of(waveform: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features, _ = reference.frontend(waveform, waveform.new_zeros(len(waveform), reference.frontend.state_size))
            return reference.normalize(features)

    held_out = features_of(waveforms[steps]), labels[steps]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    print(
        f"{'cell':5} {'clipping':9} {'when':12} {'d=0':>9} {'d=25':>9} {'d=50':>9} {'d=95':>9}  largest norm  last loss"
    )
    for cell, colour in (("rnn", "tab:red"), ("lstm", "tab:blue")):
        for clip, style in ((1.0, "-"), (0.0, "--")):
            spotter = plain(cell, corpus.labels)
            before = gradient_by_distance(spotter, *held_out)
            optimizer = torch.optim.SGD(spotter.parameters(), lr=0.3, momentum=0.9)
            norms, loss = [], torch.tensor(0.0)
            for waveform, target in zip(waveforms[:steps], labels[:steps], strict=True):
                loss = last_frame_loss(spotter, features_of(waveform), target)
                optimizer.zero_grad()
                loss.backward()
                norms.append(float(nn.utils.clip_grad_norm_(spotter.parameters(), clip or float("inf"))))
                optimizer.step()
            after = gradient_by_distance(spotter, *held_out)
            name = "clip at 1" if clip else "none"
            for when, values in (("at the start", before), (f"step {steps}", after)):
                row = " ".join(f"{values[d]:9.2e}" for d in (0, 25, 50, 95))
                print(f"{cell:5} {name:9} {when:12} {row}  {max(norms):12.2f}  {loss.item():9.3f}")
            time = np.arange(len(before)) * 10
            if clip:
                axes[0].semilogy(time, before, colour, label=cell)
            axes[1].semilogy(
                time, after, colour, ls=style, label=f"{cell}, {'clipped at 1' if clip else 'not clipped'}"
            )
    for axis, title in zip(axes, ("At the start", f"After {steps} steps of SGD"), strict=True):
        axis.set(title=title, xlabel="distance in time from the last frame (ms)", ylim=(1e-12, None))
        axis.legend()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("norm of d loss / d features, mean over clips")
    figure.tight_layout()
    path = Path(__file__).parent.parent / "docs" / "gradient_flow.png"
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
