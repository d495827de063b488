"""Clips per second of the training input: the packed map with whole-batch augmentation against a plain Dataset.

    python scripts/bench_input.py [--source speech_commands] [--root data] [--batches 60]

The plain way opens each file with soundfile and augments it alone, in numpy, in a DataLoader with two workers. Both
make float32 batches of the training clips: speed, shift, gain, noise at an SNR, fades; the packed one makes silence
besides. They take turns in one process, start-up is not counted, and the best round of each is what counts.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from kws import data
from kws.config import AugmentConfig, DataConfig, SpeechCommandsConfig, SyntheticConfig
from kws.data import Corpus
from kws.data.batches import TrainBatches
from kws.training.augment import WaveformAugmenter

SAMPLE_RATE = 16000


class PlainDataset(Dataset[torch.Tensor]):
    """Each file opened, decoded and augmented when it is asked for."""

    def __init__(self, paths: list[Path], clip_length: int, noise: NDArray[np.float32], config: AugmentConfig) -> None:
        self.paths, self.clip_length, self.noise, self.config = paths, clip_length, noise, config
        n_fade = int(config.fade_ms * SAMPLE_RATE / 1000)
        self.fade = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n_fade) + 0.5) / n_fade)).astype(np.float32)
        self.rng = np.random.default_rng()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        clip, _ = soundfile.read(self.paths[index], dtype="float32")
        clip = np.pad(clip[: self.clip_length], (0, max(0, self.clip_length - len(clip))))
        return torch.from_numpy(self._augment(clip))

    def _augment(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        rng, config, n = self.rng, self.config, self.clip_length
        self._fade_ends(clip)
        speed = 1 + rng.uniform(-config.speed, config.speed)
        shift = rng.uniform(-config.shift_ms, config.shift_ms) * SAMPLE_RATE / 1000
        steps = np.arange(n, dtype=np.float32)
        clip = np.interp((steps - n / 2 - shift) * speed + n / 2, steps, clip, 0, 0).astype(np.float32)
        if rng.random() < config.noise_probability:
            start = rng.integers(len(self.noise) - n)
            noise = self.noise[start : start + n]
            snr = 10 ** (rng.uniform(config.snr_db_min, config.snr_db_max) / 20)
            clip += noise * np.float32(np.sqrt(np.dot(clip, clip) / (np.dot(noise, noise) + 1e-9)) / snr)
        clip *= np.float32(10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20))
        np.clip(clip, -1, 1, out=clip)
        self._fade_ends(clip)
        return clip

    def _fade_ends(self, clip: NDArray[np.float32]) -> None:
        clip[: len(self.fade)] *= self.fade
        clip[-len(self.fade) :] *= self.fade[::-1]


def packed_batches(corpus: Corpus, config: DataConfig, batch_size: int) -> Iterator[torch.Tensor]:
    batches = TrainBatches(corpus, config, batch_size, seed=0)
    noise = torch.from_numpy(corpus.noise["train"].astype(np.float32) / 32768)
    augment = WaveformAugmenter(AugmentConfig(), SAMPLE_RATE, noise)
    generator = torch.Generator().manual_seed(0)
    epoch = 0
    while True:
        for batch in batches.epoch(epoch):
            yield augment(torch.from_numpy(batch.waveform).float() / 32768, generator)
        epoch += 1


def plain_batches(corpus: Corpus, root: Path, batch_size: int) -> Iterator[torch.Tensor]:
    clips, noise = corpus.splits["train"], (corpus.noise["train"] / 32768).astype(np.float32)
    dataset = PlainDataset([root / name for name in clips.names], clips.clip_length, noise, AugmentConfig())
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=2, drop_last=True)
    while True:
        yield from loader


def clips_per_second(batches: Iterator[torch.Tensor], count: int) -> float:
    for _ in range(4):
        next(batches)  # start-up, and what was prefetched meanwhile
    started = time.perf_counter()
    clips = sum(len(next(batches)) for _ in range(count))
    return clips / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("synthetic", "speech_commands"), default="synthetic")
    parser.add_argument("--root", default="data")
    parser.add_argument("--cache-dir", default=".cache/kws")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=60, help="batches measured in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    source = {"synthetic": SyntheticConfig, "speech_commands": SpeechCommandsConfig}[args.source]
    config = source(root=args.root, cache_dir=args.cache_dir)
    corpus = data.load(config, SAMPLE_RATE)
    rates: dict[str, list[float]] = {"packed": [], "plain": []}
    for _ in range(args.rounds):
        packed = packed_batches(corpus, config, args.batch_size)
        rates["packed"].append(clips_per_second(packed, args.batches))
        plain = plain_batches(corpus, corpus.splits["train"].root, args.batch_size)
        rates["plain"].append(clips_per_second(plain, args.batches))
    best = {name: max(rounds) for name, rounds in rates.items()}
    print(
        f"{len(corpus.splits['train']):,} clips, batches of {args.batch_size}, torch threads {torch.get_num_threads()}"
    )
    for name, title in (("plain", "a file at a time, DataLoader, 2 workers"), ("packed", "packed map, whole batches")):
        print(f"{title:40s} {best[name]:8,.0f} clips/s  {best[name] / best['plain']:5.1f}x")


if __name__ == "__main__":
    main()
