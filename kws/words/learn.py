"""A spotter's head, learned from embeddings: words in scenes, and hours of speech that are none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kws.config import SpeechEmbeddingConfig
from kws.model.layer import Serial
from kws.model.spotter import KeywordSpotter
from kws.system.arrays import Bool, Float32, Float64, Int64
from kws.training.optimization import average_weights
from kws.words.features import new_spotter

LANES, SCENES = 64, 64  # of a step: lanes of running speech, and scenes
LENGTH = 36  # frames of a step
WINDOW = 6  # frames in which a word's score is pooled, from one before its end
FREE_BEFORE, FREE_AFTER = 4, 5  # frames around those that are neither the word nor something else
LEARNING_RATE, WEIGHT_DECAY, WARMUP, AVERAGE_DECAY = 3e-3, 5e-2, 100, 0.99
SPEECH_WEIGHT = 20.0  # of running speech in the loss
MODEL = SpeechEmbeddingConfig(dropout=0.3, pooling="sum", pool_ms=WINDOW * 80.0)


@dataclass
class Scenes:
    """N scenes cut to one length: embeddings float32 `[N, LENGTH, 96]`; labels int64 `[N]`, 0 for none of the words.

    onsets, offsets: of the word, in frames, float64 `[N]`.
    """

    embeddings: Float32
    labels: Int64
    onsets: Float64
    offsets: Float64

    def of(self, chosen: Int64 | Bool) -> Scenes:
        """Those that are `chosen`."""
        return Scenes(self.embeddings[chosen], self.labels[chosen], self.onsets[chosen], self.offsets[chosen])

    @classmethod
    def joined(cls, parts: Sequence[Scenes]) -> Scenes:
        """All of `parts`."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    @classmethod
    def cut(cls, embeddings: Float32, lengths: Int64, labels: Int64, onsets: Float64, offsets: Float64) -> Scenes:
        """The last `LENGTH` frames of each scene; shorter ones begin with what they begin with, repeated."""
        rows = []
        for row in np.split(embeddings.astype(np.float32), np.cumsum(lengths)[:-1]):
            rows.append(np.concatenate([np.repeat(row[:1], max(0, LENGTH - len(row)), axis=0), row[-LENGTH:]]))
        shift = LENGTH - lengths
        return cls(np.stack(rows), labels + 1, onsets + shift, offsets + shift)


def learn(
    keywords: Sequence[str],
    scenes: Scenes,
    takes: Scenes | None,
    speech: Float32,
    others: Bool,
    steps: int,
    seed: int,
    done: Callable[[int, str], None],
) -> KeywordSpotter:
    """A spotter with averaged weights, in evaluation mode.

    Args:
        keywords: label 1 and so on of the scenes.
        scenes: spoken words, and what sounds like them.
        takes: recorded words, a quarter of the scenes of a step; None for none.
        speech: embeddings of hours of speech as one stream, `[T, 96]`.
        others: bool `[T]`, whether it is known that no keyword is said in that frame.
        steps: of the optimiser.
        seed: of first weights and all draws.
        done: called with the steps done since the last call and figures to show.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    spotter = new_spotter(("_unknown_", *keywords), MODEL)
    head = Serial(*list(spotter.classifier.children())[1:]).train()
    with torch.no_grad():
        spotter.classifier.get_parameter("head.conv.weight").mul_(0.1)
        spotter.classifier.get_parameter("head.conv.bias")[0] = 3.0
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    averaged = average_weights(head, AVERAGE_DECAY)
    length = max(len(speech) // LANES // LENGTH, 1) * LENGTH
    lanes = np.resize(speech, (LANES, length, speech.shape[1]))
    known = np.resize(others, (LANES, length))
    n_takes = SCENES // 4 if takes else 0
    state = torch.zeros(LANES + SCENES, head.state_size)
    losses = np.zeros(2)
    for step in range(steps):
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        start = step * LENGTH % length
        heard = scenes.of(rng.integers(len(scenes.labels), size=SCENES - n_takes))
        if takes:
            heard = Scenes.joined([heard, takes.of(rng.integers(len(takes.labels), size=n_takes))])
        x = torch.from_numpy(np.concatenate([lanes[:, start : start + LENGTH], heard.embeddings]))
        logits, state = head(x, _handed_on(state, rng))
        state = state.detach()
        free = torch.from_numpy(known[:, start : start + LENGTH])
        speech_loss = -(logits[:LANES].log_softmax(-1)[..., 0] * free).sum() / free.sum().clamp_min(1)
        word_loss = scene_loss(logits[LANES:], heard)
        optimizer.zero_grad()
        (word_loss + SPEECH_WEIGHT * speech_loss).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(head)
        losses = 0.95 * losses + 0.05 * np.array([word_loss.item(), speech_loss.item()])
        done(1, f"words={losses[0]:.3f}, speech={losses[1]:.4f}")
    head.load_state_dict(averaged.module.state_dict())
    return spotter.eval()


def _handed_on(state: Tensor, rng: np.random.Generator) -> Tensor:
    """The states with which a step begins: a lane's own, and for scenes those of any others; now and then zeros."""
    order = np.concatenate([np.arange(LANES), rng.integers(len(state), size=SCENES)])
    kept = rng.random(len(state)) > np.repeat([0.02, 0.15], [LANES, SCENES])
    return state[torch.from_numpy(order)] * torch.from_numpy(kept)[:, None]


def scene_loss(logits: Tensor, scenes: Scenes) -> Tensor:
    """The mean over scenes of their surprise at `logits` `[N, T, K]`.

    A word is judged by its posterior pooled over `WINDOW` frames, from one before its end; every frame well before and
    behind it, and every frame of a scene without a word, by the first label.
    """
    frames = torch.arange(logits.shape[1])[None]
    ends = torch.from_numpy(scenes.offsets)[:, None]
    is_word = torch.from_numpy(scenes.labels > 0)[:, None]
    free = (frames >= ends - FREE_BEFORE) & (frames < ends + WINDOW + FREE_AFTER) & is_word
    outside = ~free
    surprise = -(logits.log_softmax(-1)[..., 0] * outside).sum(1) / outside.sum(1).clamp_min(1)
    missed = -_of_the_words(logits, scenes) * is_word[:, 0]
    return surprise.mean() + missed.sum() / is_word.sum().clamp_min(1)


def _of_the_words(logits: Tensor, scenes: Scenes) -> Tensor:
    """The log posterior `[N]` of each scene's label, pooled over the window at the end of its word."""
    frames = torch.arange(logits.shape[1])[None]
    first = torch.from_numpy(scenes.offsets)[:, None].floor() - 1
    window = (frames >= first) & (frames < first + WINDOW)
    pooled = logits.masked_fill(~window[..., None], -1e4).logsumexp(1).log_softmax(-1)
    return pooled.gather(1, torch.from_numpy(scenes.labels)[:, None])[:, 0]


@torch.inference_mode()
def heard(spotter: KeywordSpotter, scenes: Scenes) -> Float64:
    """The posterior that `spotter` gives the word of each scene at its end, float64 `[N]`."""
    head = Serial(*list(spotter.classifier.children())[1:])
    x = torch.from_numpy(scenes.embeddings)
    logits, _ = head(x, x.new_zeros(len(x), head.state_size))
    return np.asarray(_of_the_words(logits, scenes).exp().double().numpy())
