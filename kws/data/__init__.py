"""Data sources behind one call, `load`, that gives labelled clips of one length, split by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kws.config import (
    SPLITS,
    DataConfig,
    FolderConfig,
    SpeechCommandsConfig,
    SyntheticConfig,
    exact_samples,
)
from kws.data import folder, speech_commands, synthetic
from kws.data.corpus import Clips, Corpus, PerSplit, all_clips, evaluation_clips, train_clips
from kws.data.labels import check_labels, choose_labels, silence_clips
from kws.data.noise import generated_noise, split_noise, varied_noise
from kws.data.pack import Pack, pack_clips
from kws.data.scan import Listing
from kws.data.splits import split_by_lists
from kws.errors import DataError, DiskFullError
from kws.system.arrays import Int16, Int64

__all__ = ["Clips", "Corpus", "DataError", "DiskFullError", "load", "silence_clips"]

SOME = 64  # clips that are listened to before training
NOISE_SECONDS = 30  # of each kind that is made where a data set brings no recorded noise


def load(config: DataConfig, sample_rate: int, *, progress: bool = True, labels: Sequence[str] | None = None) -> Corpus:
    """Find (download, speak) the data that `config` asks for, decode it once into `config.cache_dir`, and open it.

    `labels`, those of a trained model, take the place of the config's label set and fix the order; the training split
    need not be complete then, and with `test_dir` nothing but that is read for the test split. `progress` shows
    bars. Raises `DataError` (a `ValueError`), one sentence, for data that is missing, damaged or lacks a label, and
    `DiskFullError`; nothing half-made is left behind then.
    """
    clip_length = exact_samples(config.clip_ms, sample_rate, "data.clip_ms")

    def packed(listing: Listing) -> Pack:
        cache_dir = Path(config.cache_dir).expanduser()
        return pack_clips(listing, sample_rate, clip_length, cache_dir, config.workers, progress)

    @cache
    def recordings() -> tuple[Pack, Int64]:
        """The pack and the number of each clip's split."""
        listing, assigned = _find(config, progress, labels)
        check_labels(labels or choose_labels(config, listing.own_words), set(listing.words), listing.root)
        return packed(listing), np.array([SPLITS.index(split) for split in assigned], np.int64)

    @cache
    def all_noise() -> Mapping[str, Int16]:
        noise = recordings()[0].noise
        if not sum(map(len, noise)):
            made = generated_noise(np.random.default_rng(config.seed), NOISE_SECONDS, sample_rate)
            noise = list(made.values())
        parts = split_noise(noise)
        rng = np.random.default_rng(config.seed)
        return {**parts, "train": varied_noise(parts["train"], config.train_noise_variants, rng, sample_rate)}

    def clips(split: str) -> Clips:
        if split == "test" and test_dir:
            return all_clips(packed(speech_commands.find_test(test_dir)), chosen, split)
        opened, numbers = recordings()
        members = np.flatnonzero(numbers == SPLITS.index(split))
        if split == "train":
            heard = members[:: max(1, len(members) // SOME)]
            if len(heard) and not opened.rows.read(heard).any():
                raise DataError(f"{opened.listing.root} holds only silence; give recordings in which something is said")
            return train_clips(opened, members, chosen)
        return evaluation_clips(opened, members, chosen, split, all_noise()[split], config)

    test_dir = config.test_dir if isinstance(config, SpeechCommandsConfig) else ""
    chosen = tuple(labels or choose_labels(config, recordings()[0].listing.own_words))
    corpus = Corpus(chosen, PerSplit(clips), PerSplit(lambda split: all_noise()[split]))
    if labels is None:
        corpus.splits["train"]  # what training needs is checked now, an evaluation split when it is asked for
    elif not test_dir:
        recordings()
    return corpus


def _find(config: DataConfig, progress: bool, labels: Sequence[str] | None) -> tuple[Listing, list[str]]:
    """What the source lists, and the split of each clip."""
    if isinstance(config, FolderConfig):
        listing = folder.find(config)
        listing = folder.with_others(config, listing, labels or choose_labels(config, listing.own_words), progress)
        return listing, folder.splits(config, listing)
    if isinstance(config, SyntheticConfig):
        listing = synthetic.find(config, progress)
    elif isinstance(config, SpeechCommandsConfig):
        listing = speech_commands.find(config, progress)
    else:
        raise DataError(f"data.source {config.source!r} came without its options; use the config class of that source")
    return listing, split_by_lists(listing.root, listing.clips)
