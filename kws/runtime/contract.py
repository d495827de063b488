"""The metadata of an ONNX file (format 1 in ARCHITECTURE.md): which there must be, and within which bounds.

A model file is a stranger's download, so nothing else looks at its metadata before this. The page has the same rules in
`kws/apps/web/contract.js`; the files of `tests/contract.json` are judged alike by both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kws.config import FrontendConfig
from kws.runtime.detector import Detector, DetectorConfig

FORMAT = 1
MOST_LABELS, LONGEST_LABEL = 10_000, 200  # characters
MOST_SAMPLES = 1 << 24
SIZES = {  # whole numbers, at least and at most
    "sample_rate": (1000, 768_000),
    "hop_length": (1, MOST_SAMPLES),
    "frame_length": (1, MOST_SAMPLES),
    "block_size": (1, MOST_SAMPLES),
    "clip_length": (1, MOST_SAMPLES),
    "state_size": (1, MOST_SAMPLES),
}
MULTIPLES = (("block_size", "frame_length"), ("frame_length", "hop_length"))
FRONTEND = {  # numbers, whole or not, at least and at most
    "sample_rate": (int, *SIZES["sample_rate"]),
    "win_ms": (float, 0.01, 10_000),
    "hop_ms": (float, 0.01, 10_000),
    "n_fft": (int, 2, 1 << 16),
    "n_mels": (int, 1, 1 << 15),
    "n_mfcc": (int, 1, 1 << 15),
    "f_min": (float, 0, 384_000),
    "f_max": (float, 0, 384_000),
    "log_offset": (float, 1e-30, 1),
}
KEYS = ("labels", *SIZES, "frontend", "detector")


def contradiction(metadata: Mapping[str, Any]) -> str | None:
    """What is wrong with the metadata of a file, each value read from JSON; None: nothing."""
    if "kws_format" not in metadata:
        return "its metadata has no kws_format; export it with kws export"
    if metadata["kws_format"] != FORMAT:
        return f"its format is {metadata['kws_format']}; use the version of kws that it was made with"
    if missing := [key for key in KEYS if key not in metadata]:
        return f"its metadata has no {', '.join(missing)}"
    for key in ("frontend", "detector"):
        if not isinstance(metadata[key], dict):
            return f"{key} is {metadata[key]!r}, not a table"
    return _labels(metadata["labels"]) or _sizes(metadata) or _frontend(metadata) or _detector(metadata)


def _labels(labels: Any) -> str | None:
    if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels) or len(set(labels)) < len(labels):
        return f"labels is {labels!r}, not a list of different names"
    if not any(not label.startswith("_") for label in labels) or len(labels) < 2:
        return f"labels is {labels!r}, which needs a keyword and something else"
    if len(labels) > MOST_LABELS:
        return f"labels are {len(labels)}; there may be at most {MOST_LABELS}"
    for label in labels:
        if not 0 < len(label) <= LONGEST_LABEL or any(ord(character) < 32 for character in label):
            return f"labels holds {label[:LONGEST_LABEL]!r}, which is empty, too long or holds a control character"
    return None


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
    if missing := [key for key in ("kind", *FRONTEND) if key not in values]:
        return f"frontend has no {', '.join(missing)}"
    for key, (kind, least, most) in FRONTEND.items():
        if type(values[key]) not in (int, kind) or not least <= values[key] <= most:
            number = "whole number" if kind is int else "number"
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
