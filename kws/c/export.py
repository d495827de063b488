"""A model file -> a folder of C that compiles as it is: the engine, its weights, programs for host and board."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kws.c.block import make_block
from kws.c.detector import memory_size as detector_memory_size
from kws.c.detector import numbers, tables
from kws.c.layers import Weights
from kws.c.memory_map import memory_size, multiplications_per_second
from kws.c.weights import read_weights
from kws.errors import KwsError, ModelError
from kws.runtime.detector import Detector
from kws.runtime.onnx_model import DescribedModel
from kws.system.atomic import whole_files

HERE = Path(__file__).resolve().parent
TEMPLATES = ("main.c", "board.c", "board.ld", "Makefile", "CMakeLists.txt")
COPIED = ("kws.h", "kws_detector.h", "kws_math.h", "kws.c", "kws_detector.c")
# Bytes on a Cortex-M4, -O2: of code, of kws_model, kws_stream and kws_detector, of stack at most.
CODE, STRUCTS, STACK = 12_500, 2_400, 1_000
POOLINGS = {0: "KWS_POOL_SUM", 1: "KWS_POOL_MEAN"}
SCORES = {0: "KWS_SCORE_POSTERIOR", 1: "KWS_SCORE_LOG_RATIO"}


def export_c(model: Path, folder: Path, *, precision: str = "", name: str = "") -> list[Path]:
    """Write `model`, an exported `waveform` file, into `folder` as C; the files.

    precision: of the layers, `float32` or `int8`; empty: the file's. name: of the C symbols; empty: the file's.

    Raises:
        ModelError: if `model` is no model that the engine has; nothing is written then.
        KwsError: if `name` is no name in C.
        OSError: if `folder` cannot be written.
    """
    weights = read_weights(model)
    try:
        block = make_block(weights, precision)
    except ValueError as error:
        raise ModelError(f"{model} cannot be run by the C engine: {error}") from error
    precision = precision or weights.metadata.get("precision", "float32")
    name = name or re.sub(r"^(?=\d)", "model_", re.sub(r"\W", "_", model.stem, flags=re.ASCII))
    if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
        raise KwsError(f"name is {name!r}; choose one of letters, digits and _ that begins with a letter")
    values = {
        "NAME": name,
        "PREFIX": name.upper(),
        "SAMPLE_RATE": str(weights.frontend.sample_rate),
    }
    described = DescribedModel(model, weights.metadata)
    detectors = {"": described.detector_at(None)}
    for point in described.operating_points:
        detectors[f"_{point.fa_per_hour:g}_per_hour".replace(".", "_")] = described.detector_at(point.fa_per_hour)
    made = {
        f"{name}_detector{suffix}": Detector(
            described.labels, described.frame_length, described.sample_rate, config, described.block_size
        )
        for suffix, config in detectors.items()
    }
    files = {
        f"{name}_model.h": _header(name, weights, block, precision, made),
        f"{name}_model.c": _source(name, weights, block) + "".join(_options(*item) for item in made.items()),
    }
    for file in COPIED:
        files[file] = (HERE / file).read_text()
    for file in TEMPLATES:
        files[file] = re.sub(r"@(\w+)@", lambda match: values[match[1]], (HERE / "templates" / file).read_text())
    with whole_files(folder) as partial:
        for file, text in files.items():
            (partial / file).write_text(text, encoding="utf-8", newline="")
    return [folder / file for file in files]


def _header(name: str, weights: Weights, block: bytes, precision: str, detectors: dict[str, Detector]) -> str:
    detector = detector_memory_size(detectors[f"{name}_detector"])
    declared = "\n".join(f"extern const kws_detector_options {each};" for each in detectors)
    frontend, labels = weights.frontend, weights.metadata["labels"]
    prefix, memory = name.upper(), memory_size(weights, precision)
    frame_length = weights.metadata["frame_length"]
    frame_ms = 1000 * frame_length / frontend.sample_rate
    return f"""/* {name}: weights for kws.c, {precision}. Made by kws export; do not edit.
 *
 * flash   {len(block)} bytes of weights and some {CODE} of code
 * RAM     {memory} bytes for a stream ({prefix}_MEMORY_SIZE), {detector} for its detector; their structs some {STRUCTS}
 * stack   below {STACK} bytes
 * work    {multiplications_per_second(weights) / 1e6:.1f} M multiplications a second of audio
 * audio   {frontend.sample_rate} Hz; logits every {frame_length} samples, {frame_ms:g} ms
 * labels  {", ".join(_comment(label) for label in labels)}
 */
#ifndef {prefix}_MODEL_H
#define {prefix}_MODEL_H

#include "kws_detector.h"

#define {prefix}_SAMPLE_RATE {frontend.sample_rate}
#define {prefix}_FRAME_LENGTH {frame_length}
#define {prefix}_N_LABELS {len(labels)}
#define {prefix}_MEMORY_SIZE {memory}
#define {prefix}_DETECTOR_MEMORY_SIZE {detector}

extern const uint32_t {name}_block[{len(block) // 4}];
extern const char *const {name}_labels[{prefix}_N_LABELS];
{declared}

#endif
"""


def _source(name: str, weights: Weights, block: bytes) -> str:
    words = np.frombuffer(block, "<u4")
    lines = [", ".join(f"0x{word:08X}" for word in words[i : i + 10]) for i in range(0, len(words), 10)]
    labels = ",\n    ".join(_string(label) for label in weights.metadata["labels"])
    table = ",\n    ".join(lines)
    return f"""/* Weights of {name}: see {name}_model.h. */
#include "{name}_model.h"

const char *const {name}_labels[{name.upper()}_N_LABELS] = {{
    {labels}}};

const uint32_t {name}_block[{len(words)}] = {{
    {table}}};
"""


def _options(name: str, detector: Detector) -> str:
    """A `kws_detector_options` with its arrays."""
    c_types = {"thresholds": "float", "bias": "float", "is_keyword": "uint8_t", "longer": "uint32_t"}
    arrays, values = "", {key: str(value) for key, value in numbers(detector).items()}
    values["pooling"], values["score"] = POOLINGS[int(values["pooling"])], SCORES[int(values["score"])]
    values["release"] = _float(detector.config.release)
    for key, table in tables(detector).items():
        cells = [_float(x) if table.dtype == np.float32 else str(x) for x in table.ravel().tolist()]
        values[key] = f"{name}_{key}" if cells else "0"
        if cells:
            arrays += f"static const {c_types[key]} {name}_{key}[{len(cells)}] = {{{', '.join(cells)}}};\n"
    values["n_longer"] = str(len(tables(detector)["longer"]))
    fields = "".join(f"    .{key} = {value},\n" for key, value in values.items())
    return f"\n{arrays}const kws_detector_options {name} = {{\n{fields}}};\n"


def _float(value: float) -> str:
    """A float constant of C that gives it back exactly."""
    text = f"{value:.9g}"
    return text + ("f" if any(c in text for c in ".en") else ".0f")


def _string(label: str) -> str:
    """A C string of any text: what is no plain character as octal bytes."""
    plain = {*range(32, 127)} - {ord(c) for c in '"\\?'}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in label.encode()) + '"'


def _comment(label: str) -> str:
    """A label that cannot end a comment, nor its line."""
    return re.sub(r"[^\w -]", "_", label)
