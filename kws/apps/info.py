"""`kws info`: what an ONNX model says about itself. numpy and onnxruntime only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kws.c.choice import engine_of
from kws.runtime.onnx_model import load
from kws.runtime.shipped import DEFAULT, find_model

UNKNOWN = "not stated"
ENGINES = {"c": "the C engine", "onnxruntime": "onnxruntime", None: "nothing here: a device of its own front end"}


def describe(given: str | Path) -> dict[str, Any]:
    """Every fact about a model (a file or the name of a shipped one), of any variant and precision.

    Lengths in samples and milliseconds; `latency_ms` is the longest time from a sample to the logits it takes part in,
    which is one block (computing aside). `multiplications_per_second` are of audio, counted at export from the float32
    graph by the rules of `kws.onnx_export.operations`. `engine`: what computes it here, `c` or `onnxruntime`. What the
    file does not say is None. Raises `ModelError` for a file that is none of ours.
    """
    path = find_model(given)
    session, metadata = load(path)
    card: dict[str, Any] = metadata.get("card") or {}
    rate = metadata["sample_rate"]
    milliseconds = 1000 / rate
    batch = session.get_inputs()[0].shape[0]
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "engine": engine_of(path),
        "kws_version": metadata.get("kws_version"),
        "variant": metadata.get("variant", "waveform"),
        "precision": metadata.get("precision", "float32"),
        "labels": metadata["labels"],
        "sample_rate": rate,
        "frontend": metadata.get("frontend", {}),
        "block_size": metadata["block_size"],
        "latency_ms": metadata["block_size"] * milliseconds,
        "frame_ms": metadata["frame_length"] * milliseconds,
        "batch_size": batch if isinstance(batch, int) else None,
        "state_size": metadata["state_size"],
        "model": metadata.get("model", {}),
        "parameters": card.get("parameters"),
        "multiplications_per_second": card.get("multiplications_per_second"),
        "detector": metadata["detector"],
        "operating_point": card.get("operating_point"),
        "operating_points": metadata.get("operating_points", []),
        "fa_per_hour": metadata.get("fa_per_hour"),
        "validation_accuracy": card.get("validation_accuracy"),
        "data": card.get("data"),
        "data_licence": card.get("data_licence"),
        "licence": card.get("licence"),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts as lines to read."""
    frontend, model, detector = facts["frontend"], facts["model"], facts["detector"]
    options = {"win_ms": "{} ms windows", "hop_ms": "every {} ms", "n_fft": "FFT of {}", "n_mels": "{} mel bands"}
    front = [str(frontend.get("kind", UNKNOWN))]
    front += [text.format(frontend[name]) for name, text in options.items() if name in frontend]
    if "f_min" in frontend and "f_max" in frontend:
        front.append(f"{frontend['f_min']:g} to {frontend['f_max']:g} Hz")
    shape = [str(model.get("cell") or model.get("architecture", UNKNOWN))]
    sizes = ("hidden_size", "conv_channels", "projection_size", "head_frames")
    shape += [f"{name} {model[name]}" for name in sizes if name in model]
    accuracy = facts["validation_accuracy"]
    streams = facts["batch_size"] or "any number of"
    rows = {
        "file": f"{facts['file']}, {facts['bytes'] / 1000:.1f} kB, {facts['precision']}, takes {facts['variant']}",
        "runs on": ENGINES[facts["engine"]],
        "made by": f"kws {facts['kws_version'] or UNKNOWN}",
        "labels": ", ".join(facts["labels"]),
        "front end": f"{facts['sample_rate']} Hz, {', '.join(front)}",
        "model": ", ".join(shape),
        "block": f"{facts['block_size']} samples of {streams} stream(s), a decision every {facts['frame_ms']:g} ms",
        "latency": f"{facts['latency_ms']:g} ms at most, plus computing",
        "parameters": _count(facts["parameters"]),
        "multiplications": f"{_count(facts['multiplications_per_second'])} per second of audio",
        "threshold": _thresholds(detector),
        "operating point": _operating_points(facts) or _operating_point(facts["operating_point"] or {}),
        "accuracy": f"{accuracy:.2%} on validation" if _is_number(accuracy) and accuracy else UNKNOWN,
        "data": _line(facts["data"]) or UNKNOWN,
        "licence": f"{facts['licence'] or UNKNOWN}; data {facts['data_licence'] or UNKNOWN}",
    }
    width = max(map(len, rows))
    lines = (f"{name:{width}}  {value}" for name, value in rows.items())
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)


def _thresholds(detector: dict[str, Any]) -> str:
    own = detector.get("thresholds", {})
    if own and len(set(own.values())) == 1 and detector.get("score") == "log_ratio":
        return f"log ratio of {next(iter(own.values())):g} for {', '.join(own)}"
    return f"{detector.get('threshold', 'default')}" + "".join(f", {name} {value:g}" for name, value in own.items())


def _operating_points(facts: dict[str, Any]) -> str:
    """What a file of format 2 promises: a rate each, the default one marked, and what it was seen to be."""
    lines = []
    for point in facts["operating_points"]:
        low, high = point["fa_interval"]
        seen = f"{point['false_alarms']} in {point['hours']:.2f} h of speech, {low:.2g} to {high:.2g} an hour"
        default = " (default)" if point["fa_per_hour"] == facts["fa_per_hour"] else ""
        extrapolated = ", extrapolated" if point["extrapolated"] else ""
        alarms = f"{point['fa_per_hour']:g} false alarm{'s' * (point['fa_per_hour'] != 1)} an hour"
        lines.append(f"{alarms}{default}: {seen}{extrapolated}")
    return "; ".join(lines)


def _operating_point(point: dict[str, Any]) -> str:
    """What a file of format 1 says that `kws calibrate` measured, in one line."""
    if not point:
        return "not calibrated: no thresholds chosen on speech (kws calibrate)"
    try:
        misses, alarms = (f"{point[name][0]:.3g} to {point[name][1]:.3g}" for name in ("frr_interval", "fa_interval"))
        return (
            f"misses {point['frr']:.3g} ({misses}) at {point['fa_per_hour']:.3g} false alarms an hour ({alarms}); "
            f"{point['hours']:g} h of {point['stream']}, {point['events']} keywords"
        )
    except (TypeError, ValueError, LookupError):
        return UNKNOWN  # a card is free to say anything


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _count(number: Any) -> str:
    return f"{number:,}" if _is_number(number) else UNKNOWN


def _line(values: Any) -> str:
    """A table of facts in one line, numbers short; anything else as it is."""
    if not isinstance(values, dict):
        return str(values or "")
    short = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in short.items() if value not in (None, "", []))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws info`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws info", description=__doc__)
    text = f"a file, or the name of a shipped model (default: {DEFAULT})"
    parser.add_argument("model", nargs="?", default=DEFAULT, metavar="MODEL", help=text)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    facts = describe(options.model)
    print(json.dumps(facts, indent=2) if options.json else table(facts))
    return 0
