"""How loud a model hears keywords where they are not said, and where they are.

In running speech the loudest are false alarms: places worth training on again, and what a threshold has to be above.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kws.config import is_keyword
from kws.data import Clips
from kws.data.speech import RunningSpeech
from kws.evaluation.tail import LOUDEST, fit_tail
from kws.model.spotter import KeywordSpotter
from kws.recordings.speech import pause
from kws.system.arrays import Float64, Int64

LANES, BLOCK_SECONDS = 32, 5  # streams of the speech at once, and how much of each
APART = 0.5  # s between two places, at least
AROUND = 0.6  # s of faint noise before a clip, and after it, until a model has made up its mind


@torch.inference_mode()
def false_alarms(
    spotter: KeywordSpotter, speech: RunningSpeech, count: int, command_mode: bool = False
) -> tuple[Int64, Float64]:
    """The samples at which `count` false alarms, the loudest first, are loudest, and how loud: `[count]`, or fewer.

    `spotter`, in evaluation mode, hears all of `speech` in 32 lanes, the state carried. A keyword that the text says
    counts in `command_mode` alone.
    """
    frame = spotter.frame_length
    block = BLOCK_SECONDS * speech.sample_rate // frame * frame
    length = len(speech) // LANES // frame * frame
    state, window = spotter.initial_state(LANES), spotter.pool_frames
    before, parts = torch.empty(0), list[Tensor]()
    keywords = torch.tensor([is_keyword(label) for label in spotter.labels], device=state.device).expand(LANES, -1)
    others = ~keywords
    for start in range(0, length, block):
        size = min(block, length - start)
        heard = [speech.run(lane * length + start, size) for lane in range(LANES)]
        said = [speech.said(lane * length + start, size) for lane in range(LANES)]
        false = keywords if command_mode else keywords & ~torch.from_numpy(np.stack(said)).to(keywords)
        waveform = torch.from_numpy(np.stack(heard)).to(state) / 32768
        logits, state = spotter(waveform, state)
        known = torch.cat([before, logits], dim=1) if len(parts) else logits
        parts.append(keyword_evidence(known, false, others, window)[:, -logits.shape[1] :])
        before = known[:, len(known[0]) - window + 1 :]
    loudness = torch.cat(parts, dim=1)
    width = 2 * round(APART * speech.sample_rate / frame / 2) + 1
    peak = nn.functional.max_pool1d(loudness[:, None], width, 1, width // 2)[:, 0]
    lanes, frames = (loudness == peak).nonzero(as_tuple=True)
    loud, order = loudness[lanes, frames].sort(descending=True)
    places = (lanes * length + (frames + 1) * frame)[order[:count]]
    return places.cpu().numpy(), loud[:count].cpu().numpy()


@torch.inference_mode()
def keywords_heard(spotter: KeywordSpotter, clips: Clips, batch_size: int = 128) -> Float64:
    """How loud the keyword of each clip that holds one is heard in it, between two pauses: float64 `[N]`."""
    names = np.array(spotter.labels)
    spoken = np.flatnonzero([is_keyword(names[label]) for label in clips.labels])
    rate = spotter.frontend_config.sample_rate
    quiet = np.resize(pause(rate), round(AROUND * rate / spotter.frame_length) * spotter.frame_length)
    heard = list[Tensor]()
    for indices in np.array_split(spoken, max(1, -(-len(spoken) // batch_size))):
        state = spotter.initial_state(len(indices))
        around = np.tile(quiet, (len(indices), 1))
        heard_whole = np.concatenate([around, clips.waveforms(indices), around], axis=1)
        waveform = torch.from_numpy(heard_whole).to(state) / 32768
        labels = torch.from_numpy(clips.labels[indices]).to(state.device)
        keywords = nn.functional.one_hot(labels, len(names)).bool()
        others = torch.tensor([not is_keyword(name) for name in names], device=state.device).expand(len(indices), -1)
        heard.append(keyword_evidence(spotter(waveform, state)[0], keywords, others, spotter.pool_frames).amax(1))
    return torch.cat(heard).cpu().numpy()


def keyword_evidence(logits: Tensor, keywords: Tensor, others: Tensor, window: int) -> Tensor:
    """How far the loudest of `keywords` is above `others`, bool `[B, K]`, in every frame: `[B, T, K]` -> `[B, T]`.

    The logarithm of the ratio of their mean posteriors over the last `window` frames, or as many as there are.
    """
    sums = logits.double().softmax(dim=-1).cumsum(dim=1)  # in float32, sums of a block would swallow the rest
    sums = torch.cat([sums[:, :window], sums[:, window:] - sums[:, :-window]], dim=1)
    tiny = torch.finfo(sums.dtype).tiny
    loudest = (sums * keywords[:, None]).amax(-1).clamp_min(tiny)
    return (loudest / (sums * others[:, None]).sum(-1).clamp_min(tiny)).log()


def misses_at(fa_per_hour: float, spotter: KeywordSpotter, speech: RunningSpeech, clips: Clips) -> float:
    """The share of keyword clips that a threshold misses which `fa_per_hour` false alarms an hour of `speech` reach."""
    loud = false_alarms(spotter, speech, LOUDEST)[1][::-1]
    above = np.append(loud, np.nextafter(loud[-1], np.inf))  # which none reaches
    tail = fit_tail(above.tolist(), np.arange(len(loud), -1, -1), speech.hours)
    return float((keywords_heard(spotter, clips) < tail.threshold(fa_per_hour)).mean())
