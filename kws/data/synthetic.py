"""Words spoken by espeak-ng, written once in the Speech Commands layout, the same for the same seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kws.config import BACKGROUND_NOISE, SPLITS, SyntheticConfig, exact_samples
from kws.data.labels import word_set
from kws.data.noise import generated_noise
from kws.data.scan import Listing, scan
from kws.data.splits import LISTS, hash_split
from kws.errors import DataError
from kws.speech.espeak import SAMPLE_RATE, write_wav
from kws.speech.voices import speakers
from kws.system.atomic import whole_folder
from kws.system.jobs import cores, run_jobs

FORMAT = 1
NOISE_SECONDS = 60
PROCESSES = 8  # each speaks its share of the voices: fixed, for a word's sound depends on what its process said before


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be spoken."""

    path: str  # <word>/<speaker>_nohash_<n>.wav
    text: str
    voice: str  # <accent>+<variant>
    rate: int  # words per minute
    pitch: int  # 0 .. 100
    range: int  # 0 .. 100
    level_db: float  # of the peak, below full scale
    position: float  # 0: at the start of the clip, 1: at its end


def plan(words: list[str], clips_per_word: int, seed: int) -> list[PlannedClip]:
    """Draw every clip: 80 % train, 10 % validation, 10 % test of each word, each by speakers of that split alone."""
    rng = np.random.default_rng(seed)
    voices = speakers()
    pools = {split: [name for name in sorted(voices) if hash_split(name) == split] for split in SPLITS}
    held_out = max(1, round(clips_per_word / 10))
    counts = {"train": clips_per_word - 2 * held_out, "validation": held_out, "test": held_out}
    clips = []
    for word in words:
        for split in SPLITS:
            order = rng.permutation(pools[split])
            for number in range(counts[split]):
                take, speaker = divmod(number, len(order))
                clips.append(
                    PlannedClip(
                        path=f"{word}/{order[speaker]}_nohash_{take}.wav",
                        text=word,
                        voice=voices[str(order[speaker])],
                        rate=int(rng.integers(110, 240)),
                        pitch=int(rng.integers(20, 81)),
                        range=int(rng.integers(20, 91)),
                        level_db=float(rng.uniform(-24, -1)),
                        position=float(rng.random()),
                    )
                )
    return sorted(clips, key=lambda clip: (clip.voice, clip.path))


def find(config: SyntheticConfig, progress: bool = True) -> Listing:
    """List the data set `root/synthetic-<key>`, after making it if it is not there.

    16-bit WAV at 16 kHz of `clip_ms` each, the split lists and a minute each of five noises. Raises `DataError` for a
    word that cannot be a folder's name or cannot be spoken, and `DiskFullError`; nothing is left then.
    """
    words = config.words or list(word_set("35"))
    for word in words:
        if not word.strip() or word.startswith(("_", ".")) or set(word) & set('/\\:*?"<>|\0') or words.count(word) > 1:
            raise DataError(f"data.words holds {word!r}, which is empty, twice there or cannot be the name of a folder")
    clip_length = exact_samples(config.clip_ms, SAMPLE_RATE, "data.clip_ms")
    what = json.dumps([FORMAT, words, config.clips_per_word, clip_length, config.seed])
    target = Path(config.root).expanduser() / f"synthetic-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    if not target.is_dir():
        with whole_folder(target, "data.root") as partial:
            _write(partial, plan(words, config.clips_per_word, config.seed), clip_length, config, progress)
    return scan(target)


def _write(root: Path, clips: list[PlannedClip], clip_length: int, config: SyntheticConfig, progress: bool) -> None:
    for word in {clip.text for clip in clips}:
        (root / word).mkdir()
    share_of = {voice: number % PROCESSES for number, voice in enumerate(speakers().values())}
    shares: list[list[dict[str, object]]] = [[] for _ in range(PROCESSES)]
    for clip in clips:
        shares[share_of[clip.voice]].append(asdict(clip))
    jobs = [{"root": str(root), "clip_length": clip_length, "clips": share} for share in shares if share]
    run_jobs("kws.speech.espeak", jobs, config.workers or cores(), len(clips), "speaking", progress)
    (root / BACKGROUND_NOISE).mkdir()
    for name, noise in generated_noise(np.random.default_rng(config.seed), NOISE_SECONDS, SAMPLE_RATE).items():
        write_wav(root / BACKGROUND_NOISE / f"{name}.wav", noise)
    for split, name in LISTS.items():
        paths = sorted(clip.path for clip in clips if hash_split(clip.path.split("/")[1].split("_")[0]) == split)
        (root / name).write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
