"""The metadata of an ONNX file (formats 1 and 2 in ARCHITECTURE.md): which there must be, and within which bounds.

A model file is a stranger's download, so nothing else looks at its metadata before this. The page has the same rules in
`kws/apps/web/contract.js`; the files of `tests/contract.json` are judged alike by both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kws.config import FRONTEND_BOUNDS, RATES, FrontendConfig, labels_fault
from kws.runtime.detector import Detector, DetectorConfig
from kws.runtime.operating_points import OperatingPoint

FORMAT, OLDEST_FORMAT = 2, 1  # what is written, and the oldest that is read
KINDS = ("commands", "phonemes")  # keywords; phonemes of which typed words are made (kws.runtime.phrases)
MOST_POINTS = 100
MOST_SAMPLES = 1 << 24
LONGEST_FAULT = 300  # characters, for it may show what a stranger wrote
SIZES = {  # whole numbers, at least and at most
    "sample_rate": RATES,
    "hop_length": (1, MOST_SAMPLES),
    "frame_length": (1, MOST_SAMPLES),
    "block_size": (1, MOST_SAMPLES),
    "clip_length": (1, MOST_SAMPLES),
    "state_size": (1, MOST_SAMPLES),
}
MULTIPLES = (("block_size", "frame_length"), ("frame_length", "hop_length"))
WHOLE = ("sample_rate", "n_fft", "n_mels", "n_mfcc")  # numbers of the front end that are whole
KEYS = ("labels", *SIZES, "frontend", "detector")


def contradiction(metadata: Mapping[str, Any]) -> str | None:
    """What is wrong with the metadata of a file, each value read from JSON; None: nothing."""
    what = _fault(metadata)
    return f"{what[:LONGEST_FAULT]}..." if what and len(what) > LONGEST_FAULT else what


def _fault(metadata: Mapping[str, Any]) -> str | None:
    if "kws_format" not in metadata:
        return "its metadata has no kws_format; export it with kws export"
    if type(form := metadata["kws_format"]) is not int or not OLDEST_FORMAT <= form <= FORMAT:
        return f"its format is {form}; use the version of kws that it was made with"
    if missing := [key for key in (*KEYS, *(("kind",) if form > 1 else ())) if key not in metadata]:
        return f"its metadata has no {', '.join(missing)}"
    for key in ("frontend", "detector"):
        if not isinstance(metadata[key], dict):
            return f"{key} is {metadata[key]!r}, not a table"
    for key in ("model", "card"):
        if not isinstance(metadata.get(key, {}), dict):
            return f"{key} is {metadata[key]!r}, not a table"
    if form > 1 and metadata["kind"] not in KINDS:
        return f"its kind is {metadata['kind']!r}, which this version of kws does not run; it runs {', '.join(KINDS)}"
    checks = (_sizes, _frontend, _detector, *((_operating_points, _typed) if form > 1 else ()))
    return labels_fault(metadata["labels"]) or next((what for check in checks if (what := check(metadata))), None)


def _sizes(metadata: Mapping[str, Any]) -> str | None:
    for key, (least, most) in SIZES.items():
        if type(metadata[key]) is not int or not least <= metadata[key] <= most:
            return f"{key} is {metadata[key]!r}, not a whole number from {least} to {most}"
    for longer, shorter in MULTIPLES:
        if metadata[longer] % metadata[shorter]:
            return f"{longer} {metadata[longer]} is no multiple of {shorter}, {metadata[shorter]} samples"
    if 1000 * metadata["frame_length"] < metadata["sample_rate"]:
        return f"frame_length of {metadata['frame_length']} samples is shorter than a millisecond"
    return None


def _frontend(metadata: Mapping[str, Any]) -> str | None:
    values = metadata["frontend"]
    if missing := [key for key in ("kind", *FRONTEND_BOUNDS) if key not in values]:
        return f"frontend has no {', '.join(missing)}"
    for key, (least, most) in FRONTEND_BOUNDS.items():
        if type(values[key]) not in (int, int if key in WHOLE else float) or not least <= values[key] <= most:
            number = "whole number" if key in WHOLE else "number"
            return f"frontend.{key} is {values[key]!r}, not a {number} from {least:g} to {most:g}"
    try:
        frontend = FrontendConfig(**values)
    except (TypeError, ValueError) as error:
        return str(error)
    if (frontend.sample_rate, frontend.hop_length) != (metadata["sample_rate"], metadata["hop_length"]):
        return (
            f"frontend.hop_ms {frontend.hop_ms:g} at frontend.sample_rate {frontend.sample_rate} is not hop_length "
            f"{metadata['hop_length']} at sample_rate {metadata['sample_rate']}"
        )
    return None


def _detector(metadata: Mapping[str, Any]) -> str | None:
    try:
        config = DetectorConfig.from_dict(metadata["detector"])
        Detector(metadata["labels"], metadata["frame_length"], metadata["sample_rate"], config)
    except ValueError as error:
        return str(error)
    return None


def _operating_points(metadata: Mapping[str, Any]) -> str | None:
    points, chosen = metadata.get("operating_points", []), metadata.get("fa_per_hour")
    if not isinstance(points, list) or len(points) > MOST_POINTS:
        return f"operating_points is no list of at most {MOST_POINTS}"
    try:
        read = [OperatingPoint.from_dict(point) for point in points]
        for point in read:
            with_point = {**metadata["detector"], "thresholds": point.thresholds}
            if what := _detector({**metadata, "detector": with_point}):
                return what
    except ValueError as error:
        return str(error)
    promised = [point.fa_per_hour for point in read]
    if promised != sorted(set(promised)):
        return f"operating_points are for {promised} false alarms an hour; each must be higher than the one before"
    if promised and chosen not in promised:
        return f"fa_per_hour is {chosen!r}, which is none of its operating points: {promised}"
    return None


def _typed(metadata: Mapping[str, Any]) -> str | None:
    """The thresholds of typed words, of a file of phonemes: of words of one phoneme, of two, and so on."""
    values = metadata.get("typed_thresholds", [])
    if metadata["kind"] != "phonemes":
        return None
    if not isinstance(values, list) or not 0 < len(values) <= MOST_POINTS:
        return f"typed_thresholds is no list of 1 to {MOST_POINTS} numbers"
    if any(type(value) not in (int, float) or not 0 < value <= 1 for value in values):
        return f"typed_thresholds is {values}; each must be a number above 0 and at most 1"
    return None
