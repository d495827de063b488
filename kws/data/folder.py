"""Your own recordings: one folder of audio files per word, any sample rate and number of channels.

A spotter has to hear what is none of its words, too. That is what lies in `_unknown_` and in the folders of words that
are not asked for; where there is neither, espeak-ng speaks sound-alikes and everyday phrases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kws.config import UNKNOWN, FolderConfig, SyntheticConfig, keywords_of
from kws.data import synthetic
from kws.data.scan import Listing, scan
from kws.data.splits import speaker_of, split_by_hash, split_by_lists
from kws.errors import DataError
from kws.speech.sound_alikes import other_texts

CLIPS_PER_TEXT = 10  # spoken of each text, by as many voices


def find(config: FolderConfig) -> Listing:
    """List the recordings in `config.root`; `DataError` if there are none."""
    root = Path(config.root).expanduser()
    remedy = "give the folder that holds one folder of audio files per word"
    if not root.is_dir():
        raise DataError(f"data.root {root} is not a folder; {remedy}")
    listing = scan(root, (UNKNOWN,))
    if not listing.clips:
        raise DataError(f"data.root {root} holds no recordings; {remedy}")
    return listing


def with_others(config: FolderConfig, listing: Listing, labels: Sequence[str], progress: bool = True) -> Listing:
    """`listing`, and other words spoken by espeak-ng if `labels` have `_unknown_` and nothing recorded belongs to it.

    Raises `DataError` where espeak-ng is needed and missing, and what `kws.data.synthetic.find` raises.
    """
    keywords = keywords_of(labels)
    if UNKNOWN not in labels or set(listing.words) - set(keywords):
        return listing
    if find_spec("espeakng_loader") is None:
        raise DataError(
            f"{listing.root} holds no words but the keywords, and espeak-ng, which would speak others, is missing; "
            f"install it with pip install 'kws[synth]', or put recordings of other words into {listing.root / UNKNOWN}"
        )
    spoken = SyntheticConfig(
        root=config.cache_dir, words=other_texts(keywords), clips_per_word=CLIPS_PER_TEXT, clip_ms=config.clip_ms,
        workers=config.workers, seed=config.seed,
    )  # fmt: skip
    return listing.joined(synthetic.find(spoken, progress))


def splits(config: FolderConfig, listing: Listing) -> list[str]:
    """The split of each clip: by speaker where names carry one (`<speaker>_nohash_<n>`), else take by take.

    The takes of a word that would lack a split so, as with one or two speakers, are split one by one. What is spoken
    beside the recordings has lists of its own.
    """
    by_clip: dict[str, str] = {}
    shares = {"validation": config.validation_percent / 100, "test": config.test_percent / 100}
    for word in sorted(listing.own_words):
        clips = [clip for clip in listing.clips if clip.startswith(f"{word}/")]
        named = [clip for clip in clips if speaker_of(clip)]
        by_speaker = dict(zip(named, split_by_hash(named, config.validation_percent, config.test_percent), strict=True))
        if named and not {"train", *(split for split in shares if shares[split])} <= set(by_speaker.values()):
            by_speaker = {}
        single = [clip for clip in clips if clip not in by_speaker]
        single.sort(key=lambda clip: hashlib.sha1(clip.encode(errors="surrogateescape")).digest())
        counts = {split: max(share > 0, round(share * len(single))) for split, share in shares.items()}
        assigned = [split for split, count in counts.items() for _ in range(count)] + ["train"] * len(single)
        by_clip |= by_speaker | dict(zip(single, assigned, strict=False))
    for root in set(listing.elsewhere.values()):
        clips = [clip for clip in listing.clips if listing.elsewhere.get(clip.split("/", 1)[0]) == root]
        by_clip |= zip(clips, split_by_lists(root, clips), strict=True)
    return [by_clip[clip] for clip in listing.clips]
