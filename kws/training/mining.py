"""Where in running speech a model hears a keyword loudest: places worth training on again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kws.config import is_keyword
from kws.data.speech import RunningSpeech
from kws.model.spotter import KeywordSpotter
from kws.system.arrays import Int64

LANES, BLOCK_SECONDS = 32, 5  # streams of the speech at once, and how much of each
APART = 0.5  # s between two places, at least


@torch.inference_mode()
def loud_places(spotter: KeywordSpotter, speech: RunningSpeech, count: int, command_mode: bool = False) -> Int64:
    """The samples at which `count` false alarms, the loudest first, are loudest: int64 `[count]`, or fewer.

    `spotter`, in evaluation mode, hears all of `speech` in 32 lanes, the state carried. A keyword that the text says
    counts in `command_mode` alone.
    """
    frame = spotter.frame_length
    block = BLOCK_SECONDS * speech.sample_rate // frame * frame
    length = len(speech) // LANES // frame * frame
    state, window = spotter.initial_state(LANES), spotter.pool_frames
    before, parts = torch.zeros(0), list[Tensor]()
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
    loudest = loudness[lanes, frames].argsort(descending=True)[:count]
    return ((lanes * length + (frames + 1) * frame)[loudest]).cpu().numpy()


def keyword_evidence(logits: Tensor, keywords: Tensor, others: Tensor, window: int) -> Tensor:
    """How far the loudest of `keywords` is above `others`, bool `[B, K]`, in every frame: `[B, T, K]` -> `[B, T]`.

    The logarithm of the ratio of their mean posteriors over the last `window` frames, or as many as there are.
    """
    posteriors = logits.float().softmax(dim=-1)
    sums = posteriors.cumsum(dim=1)
    sums = torch.cat([sums[:, :window], sums[:, window:] - sums[:, :-window]], dim=1)
    tiny = torch.finfo(sums.dtype).tiny
    loudest = (sums * keywords[:, None]).amax(-1).clamp_min(tiny)
    return (loudest / (sums * others[:, None]).sum(-1).clamp_min(tiny)).log()
