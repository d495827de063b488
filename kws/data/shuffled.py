"""Takes cut up and put together in another order: `_unknown_` in the very voices and rooms that say the keywords.

Where all other words are synthetic, a model learns that whatever is real is a keyword; these say otherwise.
"""

from __future__ import annotations

import numpy as np

from kws.system.arrays import Int16

PIECE_SECONDS, FADE_SECONDS = (0.08, 0.25), 0.005


def shuffled(clip: Int16, rng: np.random.Generator, sample_rate: int) -> Int16:
    """int16 `[S]` -> `[S]`: its pieces of 80 to 250 ms in another order, half of them backwards, joins faded."""
    shortest, longest = (round(seconds * sample_rate) for seconds in PIECE_SECONDS)
    cuts = np.cumsum(rng.integers(shortest, longest + 1, len(clip) // shortest))
    pieces = np.split(clip.astype(np.float32), cuts[cuts < len(clip)])
    fade = np.linspace(0, 1, round(FADE_SECONDS * sample_rate), dtype=np.float32)
    for piece in pieces:
        length = min(len(fade), len(piece))
        piece[:length] *= fade[:length]
        piece[len(piece) - length :] *= fade[:length][::-1]
    order = rng.permutation(len(pieces))
    backwards = rng.random(len(pieces)) < 0.5
    joined = [pieces[i][::-1] if back else pieces[i] for i, back in zip(order, backwards, strict=True)]
    return np.concatenate(joined).astype(np.int16)
