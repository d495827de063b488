"""Many streams of audio through one model, one call for all of them. numpy and onnxruntime, or the C engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.c.choice import load_model
from kws.c.engine import CDetectionStreams, CModel
from kws.errors import KwsError, ModelError
from kws.runtime.detector import Detection, Detector, DetectorConfig
from kws.runtime.onnx_model import Samples, SpotterModel, Stepper, as_float
from kws.system.arrays import Float32


class BatchedSpotter:
    """`n_streams` independent streams of audio.

        spotter = BatchedSpotter("model.onnx", 64)
        for stream, found in enumerate(spotter.feed(samples)): ...

    A stream's results are the same, bit for bit, whatever the others hear and whenever they hear it.
    """

    def __init__(
        self,
        model: SpotterModel | CModel | str | Path,
        n_streams: int,
        *,
        thresholds: Mapping[str, float] | float | None = None,
        fa_per_hour: float | None = None,
        detector: DetectorConfig | None = None,
        engine: str | None = None,
        threads: int = 1,
    ) -> None:
        """Streams at time 0.

        Args:
            model: a loaded model, its file or name; onnxruntime needs one exported in float32 with `--batch-size 0` or
                `--batch-size N`.
            n_streams: how many streams there are.
            thresholds: for single keywords, or one for all of them; the model's own hold for the rest.
            fa_per_hour: the model's operating point for so many false alarms an hour; None: its default.
            detector: replaces the model's detector configuration.
            engine: as that of `StreamingSpotter`.
            threads: that share the streams, with the C engine; onnxruntime's are those of a `SpotterModel`.

        Raises:
            ModelError: if the file is not a model to be used here.
            ValueError: for `n_streams` or `threads` below 1, a threshold out of bounds or of an unknown keyword.
        """
        for name, count in {"n_streams": n_streams, "threads": threads}.items():
            if count < 1:
                raise KwsError(f"{name} is {count}; it must be at least 1")
        self.model = load_model(model, engine)
        config = (detector or self.model.detector_at(fa_per_hour)).with_thresholds(thresholds)
        model = self.model
        self._detectors = [
            Detector(model.labels, model.frame_length, model.sample_rate, config, model.block_size)
            for _ in range(1 if isinstance(model, CModel) else n_streams)
        ]
        self._streams: CDetectionStreams | _Steps
        if isinstance(model, CModel):
            self._streams = CDetectionStreams(model, self._detectors[0], n_streams, threads)
        else:
            self._streams = _Steps(model, self._detectors)
        self._n_streams = n_streams

    def __len__(self) -> int:
        """How many streams there are."""
        return self._n_streams

    def reset(self, stream: int | None = None) -> None:
        """Begin one stream anew at time 0, or all of them."""
        for i in range(len(self)) if stream is None else (stream,):
            self._streams.reset(i)

    def feed(self, samples: Sequence[Samples] | Samples) -> list[list[Detection]]:
        """The next samples of every stream -> each stream's detections. Feed streams together where you can.

        `samples`: for each stream `[n]`, any n, 0 included, float32 in [-1, 1] or int16; so `[n_streams, n]` as well.
        Raises `ValueError` for anything else, NaN and infinity included; all streams are then as they were before.
        """
        if len(samples) != len(self):
            raise KwsError(f"samples are for {len(samples)} streams; give an array for each of the {len(self)}")
        if isinstance(samples, np.ndarray) and samples.ndim == 2:
            return self._streams.feed([*as_float(samples.ravel()).reshape(samples.shape)])
        return self._streams.feed([as_float(array) for array in samples])

    def flush(self, stream: int) -> list[Detection]:
        """End one stream: its last samples, zeros to the end of a block, and what was held back. Then `reset` it."""
        return self._streams.flush(stream)


class _Steps:
    """Streams as the rows of one batch on onnxruntime.

    Every step takes the whole batch, and a stream without a whole block keeps the state it had.
    """

    def __init__(self, model: SpotterModel, detectors: list[Detector]) -> None:
        if model.metadata.get("precision") == "int8" and len(detectors) > 1:
            raise ModelError(
                f"{model.path} is int8, whose scales are taken over a whole step: a stream would depend on its "
                "neighbours; export it with --precision float32 --batch-size 0"
            )
        self.stepper, self._detectors, self._block_size = Stepper(model, len(detectors)), detectors, model.block_size
        self._filled = np.zeros(len(detectors), np.int64)  # samples of each stream's next block in the stepper

    def reset(self, stream: int) -> None:
        self.stepper.state[stream] = 0
        self._filled[stream] = 0
        self._detectors[stream].reset()

    def feed(self, arrays: list[Float32]) -> list[list[Detection]]:
        found: list[list[Detection]] = [[] for _ in arrays]
        taken = [0] * len(arrays)
        waveform, block_size = self.stepper.waveform, self._block_size
        while True:  # one round for each block
            for i, array in enumerate(arrays):
                start, filled = taken[i], int(self._filled[i])
                count = min(block_size - filled, len(array) - start)
                if count:
                    waveform[i, filled : filled + count] = array[start : start + count]
                    taken[i], self._filled[i] = start + count, filled + count
            ready = self._filled == block_size
            if not ready.any():
                return found
            self.stepper.step()
            if not ready.all():
                self.stepper.state[~ready] = self.stepper.previous[~ready]
            self._filled[ready] = 0
            for i in np.flatnonzero(ready).tolist():
                found[i] += self._detectors[i].process(self.stepper.logits[i])

    def flush(self, stream: int) -> list[Detection]:
        rest = np.zeros(-self._filled[stream] % self._block_size, np.float32)
        found = self.feed([rest if i == stream else rest[:0] for i in range(len(self._filled))])[stream]
        found += self._detectors[stream].flush()
        self.reset(stream)
        return found
