"""`kws scan`: find keywords in an archive of audio, on all cores or on a cluster, to be gone on with when stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kws.apps.spot import add_model_arguments, parse_thresholds
from kws.c.choice import ENGINES, load_model
from kws.errors import KwsError, between
from kws.runtime.detector import Detector
from kws.scan.archive import scan
from kws.scan.results import Results
from kws.scan.scanner import Settings, fingerprint
from kws.scan.tables import FORMATS

EPILOG = """A SOURCE is a folder (all audio and tar files below it), a pattern in quotes, a manifest (CSV or parquet
with a column `path`) or a file; here, or as s3://, gs://, az:// or another URI that fsspec knows. DIR/detections has a
row per detection, DIR/files one per file, damaged ones too; scores are the highest that each utterance reached. A scan
that was stopped, however, goes on with --resume."""


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kws scan", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="a folder, a pattern, a manifest, a file, a URI of one of them")
    add("--output", required=True, type=Path, metavar="DIR", help="the folder for the results")
    add("--resume", action="store_true", help="go on with the results that are there")
    add("--format", choices=FORMATS, default="parquet", help="of the results (default: parquet, which needs pyarrow)")
    add_model_arguments(parser)
    add("--engine", choices=sorted(ENGINES), help="what computes the model (default: the quickest that is here)")
    add("--keywords", action="append", default=[], metavar="WORD,...", help="keep these alone")
    add("--min-score", type=float, metavar="X", help="keep detections whose highest score reaches this")
    add("--workers", type=int, metavar="N", help="processes (default: one per core of the machine or the cluster)")
    add("--ray", metavar="ADDRESS", help="use a Ray cluster: auto, HOST:PORT or, for one of this machine alone, local")
    add("--shard", default="1/1", metavar="I/N", help="scan the I-th of N parts of the archive; one machine each")
    add("--top", type=int, metavar="N", help="write ranking.csv: the N highest scores of each keyword")
    add("--clips", type=Path, metavar="DIR", help="write the audio around the detections of the ranking, or of all")
    return parser.parse_args(given)


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (2, 8). Raises `KwsError`."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise KwsError(f"--shard is {text}; give I/N with I from 1 to N, like 2/8")
    return int(index), int(count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws scan`: the exit status; 0 also where some files could not be read, which their rows say."""
    options = _arguments(arguments)
    for option in ("workers", "top"):
        if (value := getattr(options, option)) is not None:
            between(f"--{option}", value, 1)
    shard = parse_shard(options.shard)
    model = load_model(options.model, options.engine)
    thresholds = parse_thresholds(options.threshold)
    if thresholds is None and not model.is_calibrated:
        print(f"note: {model.path} has no thresholds chosen on speech; kws calibrate chooses them", file=sys.stderr)
    config = model.detector_at(options.fa_per_hour).with_thresholds(thresholds)
    known = Detector(model.labels, model.frame_length, model.sample_rate, config).keywords
    keywords = tuple(sorted({word for given in options.keywords for word in given.split(",")}))
    for word in keywords:
        if word not in known:
            raise KwsError(f"--keywords names {word!r}; the model's keywords are {', '.join(known)}")
    path = model.path.absolute()
    settings = Settings(str(path), fingerprint(path), options.engine, config.to_dict(), keywords, options.min_score)
    scan(
        options.sources,
        Results(options.output.absolute(), options.format, shard),
        settings,
        score=config.score,
        workers=options.workers,
        ray=options.ray,
        resume=options.resume,
        top=options.top,
        clips=options.clips and options.clips.absolute(),
    )
    return 0
