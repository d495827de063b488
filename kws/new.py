"""A spotter for one's own words, from text alone or with a few takes: `kws new WORD... --output DIR`."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws new`, before imports that may be missing
    cli.door("new")

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.apps import capture
from kws.calibrate import FITTED, calibrate
from kws.errors import KwsError
from kws.speech import kokoro
from kws.system.jobs import cores
from kws.words import negatives
from kws.words.confusion import confusions
from kws.words.mixing import SAMPLE_RATE
from kws.words.report import write_report
from kws.words.speak import CLIPS, say_once
from kws.words.stages import Workshop, check_hours
from kws.words.takes import Takes, read_takes
from kws.words.words import read_words, warnings_of

FA_PER_HOUR = 0.5
# Seconds of one core, measured: a clip of Kokoro, a scene, an hour of speech, a step, an hour to calibrate on.
SECONDS = {"clip": 1.8, "scene": 0.07, "speech": 34.0, "step": 0.05, "calibration": 40.0}


def new(
    words: Sequence[str],
    output: str | Path,
    *,
    say: Sequence[str] = (),
    takes: str | Path | None = None,
    negative_places: Sequence[str | Path] = (),
    language: str = "en",
    fa_per_hour: float = FA_PER_HOUR,
    seed: int = 0,
    steps: int = 0,
    clips: int = CLIPS,
    workers: int = 0,
    play: bool = False,
) -> Path:
    """Make `output/model.onnx` and `output/report.html`; prints what it does, returns the model.

    Stopped, it goes on with the same call. What the stages leave lies in `output/work`, which may be deleted after.

    Args:
        words: what is to be heard, each a word or a phrase.
        output: the folder to make.
        say: `WORD=PHONEMES` (of a single word: `PHONEMES`), in espeak-ng's notation, where it says a word wrongly.
        takes: a folder of recordings of the words (`kws record`).
        negative_places: folders or tables of speech without the words; none: Mini LibriSpeech, downloaded once.
        language: a language of espeak-ng.
        fa_per_hour: false alarms an hour that the file allows by default, of all words together.
        seed: of everything drawn.
        steps: of learning; 0: by the number of words.
        clips: spoken of each word.
        workers: processes; 0: one per core.
        play: whether each word is played first, as it is pronounced.

    Raises:
        KwsError: for words that cannot be said or told apart, takes of no use, too little speech.
    """
    output = Path(output).expanduser()
    if clips < 32:
        raise KwsError(f"--clips is {clips}; at least 32 of each word are needed")
    if not 0 < fa_per_hour < float("inf"):
        raise KwsError(f"--fa-per-hour is {fa_per_hour:g}; give a number of false alarms above 0, such as 0.5")
    for name, value in (("steps", steps), ("workers", workers), ("seed", seed)):
        if value < 0:
            raise KwsError(f"--{name} is {value}; give 0 or more")
    if output.is_file():
        raise KwsError(f"--output {output} is a file; name a folder")
    asked = read_words(words, _said(say, words), language)
    width = max(len(word.label) for word in asked)
    for word in asked:
        print(f"{word.label:{width}}  {word.ipa}  --say {shlex.quote(f'{word.label}={word.notation}')}")
    if play:
        for clip in say_once(asked, language):
            capture.play(clip, SAMPLE_RATE)
    found = negatives.find([Path(place).expanduser() for place in negative_places])
    train, held = negatives.split(found)
    check_hours(train, held, FITTED / fa_per_hour)
    lexicon = {w for u in found for w in u.text.lower().split() if w.isascii() and w.replace("'", "").isalpha()}
    for warning in warnings_of(asked, lexicon, language):
        print(f"note: {warning}")
    given, faults = read_takes(Path(takes), [w.label for w in asked]) if takes else (Takes(), [])
    for fault in faults:
        print(f"note: {fault}")
    workers = workers or cores()
    shop = Workshop(output / "work", asked, given, train, held, language, seed, workers, steps, clips)
    shop.begin()
    started = time.monotonic()
    spoken_before = shop.folder / "spoken-000.npz"
    print(
        f"{len(asked)} word{'s' * (len(asked) > 1)}, {len(given.sounds)} takes, {negatives.hours(train):.1f} h of "
        f"speech to train on and {negatives.hours(held):.1f} h to calibrate on; "
        + (
            "going on"
            if spoken_before.is_file()
            else f"about {_minutes(shop):.0f} minutes on {workers} core{'s' * (workers > 1)}"
        )
    )
    spoken = shop.speak()
    scenes, taken, recordings = shop.mix(spoken)
    speech, free = shop.hear()
    checkpoint = shop.learn(scenes, taken, speech, free)
    raw, calibrated = shop.folder / "raw.onnx", shop.folder / "calibrated.onnx"
    shop.export(checkpoint, raw)
    table = shop.speech_table()
    points = calibrate(
        raw, recordings, speech=table, fa_per_hour=fa_per_hour, each=True, output=calibrated, workers=workers
    )
    model = output / "model.onnx"
    shop.finish(calibrated, model)
    report = output / "report.html"
    alike = confusions(model, asked, language, shop.folder, np.random.default_rng(seed))
    write_report(report, shop, points, fa_per_hour, spoken, alike)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{model} and {report}, in {minutes:.1f} minutes; try it with:")
    print(f"  kws listen --model {shlex.quote(str(model))}")
    return model


def _said(say: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    said = {}
    for entry in say:
        word, found, phonemes = entry.partition("=")
        if not found and len(words) == 1:
            word, phonemes = words[0], entry
        if not phonemes.strip():
            raise KwsError(f"--say {entry!r} is not WORD=PHONEMES")
        said[" ".join(word.lower().split())] = phonemes
    return said


def _minutes(shop: Workshop) -> float:
    """How long a run from the beginning takes: an estimate from what one core was measured to do."""
    n_scenes = 4 * shop.clips * len(shop.words)
    parallel = SECONDS["scene"] * n_scenes + SECONDS["speech"] * negatives.hours(shop.train) * 4 / 3
    parallel += SECONDS["clip"] * shop.clips * len(shop.words) * bool(kokoro.voices_of(shop.language))
    parallel += SECONDS["calibration"] * negatives.hours(shop.calibrate)
    return (parallel / shop.workers + SECONDS["step"] * shop.steps) / 60


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws new`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws new", description=__doc__)
    add = parser.add_argument
    add("words", nargs="+", metavar="WORD", help="a word or a phrase in quotes; several make one spotter")
    add("--output", required=True, metavar="DIR", help="the folder to make: model.onnx, report.html")
    add("--say", action="append", default=[], metavar="[WORD=]PHONEMES", help="phonemes in espeak-ng's notation")
    add("--play", action="store_true", help="play each word first, as it is pronounced")
    add("--takes", metavar="DIR", help="recordings of the words: a folder for each (kws record makes them)")
    add(
        "--negatives", action="append", default=[], dest="negative_places", metavar="DIR",
        help="speech without the words, a folder or a table; may be given several times (default: Mini LibriSpeech)",
    )  # fmt: skip
    add("--language", default="en", metavar="CODE", help="of the words, as espeak-ng calls it (default: en)")
    add("--fa-per-hour", type=float, default=FA_PER_HOUR, metavar="X", help="false alarms allowed (default: 0.5)")
    add("--seed", type=int, default=0, metavar="N", help="of everything drawn (default: 0)")
    add("--steps", type=int, default=0, metavar="N", help="of learning (default: by the number of words)")
    add("--clips", type=int, default=CLIPS, metavar="N", help=f"spoken of each word (default: {CLIPS})")
    add("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    options = vars(parser.parse_args(arguments))
    new(options.pop("words"), options.pop("output"), **options)
    return 0
