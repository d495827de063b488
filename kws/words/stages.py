"""From words to a spotter, stage by stage; what a stage has made is not made again by the same command."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.onnx_export.onnx_file import export_onnx
from kws.recordings.speech import Utterance, says
from kws.system.atomic import whole_file
from kws.system.jobs import run_jobs
from kws.system.progress import Stage
from kws.words import negatives, speak
from kws.words.held_out import write_held_out
from kws.words.learn import Scenes, heard, learn
from kws.words.mixing import HEARD_THROUGH
from kws.words.speak import read_spoken
from kws.words.takes import SCENES, Takes, write_takes
from kws.words.words import Word, voice_of

FORMAT, CACHE_FORMAT = 3, 2
SHARD_CLIPS, SHARD_FILES = 128, 100
HELD_OUT_SHARD = 8  # every eighth shard of voices is not trained on
HELD_OUT_CLIPS = 60  # of a word
TALK_FILES = 60  # of real speech, that stand beside the words
HEARD_SHARE = 3  # one shard of speech in so many is also trained on through rooms and noise
STEPS, STEPS_PER_WORD = 1600, 200
CHECK_STEPS, CHECK_LEAST = 400, 0.05  # before takes are heard; posterior of its word that a take must have
LEAST_HOURS = 0.2  # of speech to train on
CACHE = Path("~/.cache/kws/embeddings")


@dataclass
class Workshop:
    """What a command asks for, and the folder where its stages leave their work."""

    folder: Path
    words: Sequence[Word]
    takes: Takes
    train: Sequence[Utterance]
    calibrate: Sequence[Utterance]
    language: str
    seed: int
    workers: int
    steps: int = 0
    clips: int = speak.CLIPS

    def __post_init__(self) -> None:
        self.labels = [word.label for word in self.words]
        self.steps = self.steps or STEPS + STEPS_PER_WORD * len(self.words)
        self.talk = [str(u.path) for u in self.train if self._is_free(u)][:: max(1, len(self.train) // TALK_FILES)]

    def begin(self) -> None:
        """Make the folder, and empty it of the work for other words or options."""
        asked = [FORMAT, [asdict(w) for w in self.words], self.language, self.seed, self.steps, self.clips]
        asked += [[len(take) for take in self.takes.sounds], [str(u.path) for u in (*self.train, *self.calibrate)]]
        key = hashlib.sha256(json.dumps(asked).encode(errors="surrogateescape")).hexdigest()
        mark = self.folder / "asked"
        if mark.is_file() and mark.read_text() != key:
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(key)

    def _is_free(self, utterance: Utterance) -> bool:
        """Whether none of the words is known to be said in it."""
        return not any(says(utterance.text, label) for label in self.labels)

    def _missing(self, paths: Sequence[Path]) -> list[int]:
        return [i for i, path in enumerate(paths) if not path.is_file()]

    def _run(self, module: str, shards: Sequence[Any], total: int, title: str, **common: Any) -> None:
        """Make the shards that are missing, a process for each worker: they start slowly."""
        if shards:
            jobs = [{**common, "shards": shards[i :: self.workers]} for i in range(min(self.workers, len(shards)))]
            run_jobs(module, jobs, self.workers, total, title, True)

    def speak(self) -> list[Path]:
        """Files of spoken clips, by voices."""
        clips = speak.plan([word.said for word in self.words], self.language, self.seed, self.clips)
        size = min(SHARD_CLIPS, -(-len(clips) // HELD_OUT_SHARD))
        parts = [clips[i : i + size] for i in range(0, len(clips), size)]
        paths = [self.folder / f"spoken-{i:03d}.npz" for i in range(len(parts))]
        shards = [{"clips": parts[i], "path": str(paths[i])} for i in self._missing(paths)]
        total = sum(len(shard["clips"]) for shard in shards)
        self._run("kws.words.speak", shards, total, "speaking", language=voice_of(self.language))
        return paths

    def mix(self, spoken: Sequence[Path]) -> tuple[Scenes, Scenes | None, Path]:
        """Scenes to train on, those of takes, and the recording set of the voices held out."""
        held = [path for i, path in enumerate(spoken) if i % HELD_OUT_SHARD == HELD_OUT_SHARD - 1]
        kept = [path for path in spoken if path not in held]
        sources = list(kept)
        if self.takes.sounds:
            sources.append(self.folder / "takes.npz")
            write_takes(self.takes, sources[-1])
        paths = [path.with_name(f"scenes-{path.name}") for path in sources]
        shards = [
            {"scenes": str(sources[i]), "talk": self.talk, "path": str(paths[i]),
             "seed": [self.seed, i]}
            for i in self._missing(paths)
        ]  # fmt: skip
        total = sum(len(read_spoken(Path(str(shard["scenes"])))[1]) for shard in shards)
        self._run("kws.words.features", shards, total, "mixing")
        recordings = self.folder / "held-out"
        if not recordings.is_dir():
            write_held_out(held, self.labels, recordings, HELD_OUT_CLIPS, self.seed)
        scenes = [Scenes.cut(**np.load(path)) for path in paths]
        taken = scenes.pop() if self.takes.sounds else None
        return Scenes.joined(scenes), taken, recordings

    def hear(self) -> tuple[Any, Any]:
        """Embeddings of the speech to train on as one stream `[T, 96]`, and where none of the words is said `[T]`."""
        parts = [self.train[i : i + SHARD_FILES] for i in range(0, len(self.train), SHARD_FILES)]
        asked = [(part, False) for part in parts] + [(part, True) for part in parts[::HEARD_SHARE]]
        cache = CACHE.expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        paths = [cache / f"{_stamp(part, heard)}.npz" for part, heard in asked]
        shards = [
            {"speech": [str(u.path) for u in asked[i][0]], "heard": asked[i][1], "path": str(paths[i]), "seed": i}
            for i in self._missing(paths)
        ]
        total = sum(len(asked[i][0]) for i in self._missing(paths))
        self._run("kws.words.features", shards, total, "hearing real speech")
        rows, free = [], []
        for path, (part, _) in zip(paths, asked, strict=True):
            with np.load(path) as file:
                rows.append(file["embeddings"].astype(np.float32))
                lengths = np.diff(file["ends"], prepend=0)
            free.append(np.repeat([self._is_free(utterance) for utterance in part], lengths))
        return np.concatenate(rows), np.concatenate(free)

    def learn(self, scenes: Scenes, takes: Scenes | None, speech: Any, free: Any) -> Path:
        """The checkpoint of the spotter."""
        path = self.folder / "learned.safetensors"
        if not path.is_file():
            if takes:
                takes = self._that_sound_right(scenes, takes, speech, free)
            with Stage("learning", self.steps, "step") as stage:
                spotter = learn(self.labels, scenes, takes, speech, free, self.steps, self.seed, stage.advance)
            save_checkpoint(path, spotter)
        return path

    def _that_sound_right(self, scenes: Scenes, takes: Scenes, speech: Any, free: Any) -> Scenes:
        """The takes that what was learned from text alone hears; the others are named. Raises `KwsError` for none."""
        with Stage("listening to the takes", CHECK_STEPS, "step") as stage:
            spotter = learn(self.labels, scenes, None, speech, free, CHECK_STEPS, self.seed, stage.advance)
        sure = heard(spotter, takes).reshape(-1, SCENES).mean(axis=1) >= CHECK_LEAST
        for number in np.flatnonzero(~sure):
            label = self.labels[self.takes.labels[number]]
            print(f"note: {self.takes.paths[number]} does not sound like {label!r}; it is left out")
        if not sure.any():
            raise KwsError(f"none of the takes sounds like {', '.join(self.labels)}; record them again: kws record")
        return takes.of(np.repeat(sure, SCENES))

    def export(self, checkpoint: Path, target: Path) -> None:
        """The spotter as an ONNX file without thresholds."""
        spotter, _ = load_checkpoint(checkpoint)
        card = {"words": {word.label: word.ipa for word in self.words}, "language": self.language,
                "takes": len(self.takes.sounds), "speech_hours": round(negatives.hours(self.train), 2),
                "licence": "Apache-2.0", "clip_length": 16000}  # fmt: skip
        export_onnx(spotter, target, card=card)

    def speech_table(self) -> Path:
        """A table of the speech to calibrate on."""
        path = self.folder / "calibrate.csv"
        negatives.write_table(self.calibrate, path)
        return path

    def finish(self, calibrated: Path, output: Path) -> None:
        """Put the calibrated file where it belongs."""
        with whole_file(output) as partial:
            partial.write_bytes(calibrated.read_bytes())


def _stamp(part: Sequence[Utterance], heard: bool) -> str:
    stamps = "".join(f"{u.path.resolve()}\0{(status := u.path.stat()).st_size}\0{status.st_mtime_ns}\n" for u in part)
    how = HEARD_THROUGH if heard else ""
    return hashlib.sha256(f"{CACHE_FORMAT} {heard}{how} {stamps}".encode(errors="surrogateescape")).hexdigest()[:20]


def check_hours(train: Sequence[Utterance], calibrate: Sequence[Utterance], least: float) -> None:
    """Raise `KwsError` where there is too little speech to train on, or less than `least` hours to calibrate on."""
    for what, part, needed in (("train on", train, LEAST_HOURS), ("calibrate on", calibrate, least)):
        if (found := negatives.hours(part)) < needed:
            raise KwsError(
                f"there is {found:.2f} h of speech to {what}, and {needed:.2g} h are needed; {negatives.REMEDY}"
            )
