"""Many streams of audio through one model, one call for all of them. numpy and onnxruntime only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.errors import KwsError, ModelError
from kws.runtime.detector import Detection, Detector, DetectorConfig
from kws.runtime.onnx_model import Samples, SpotterModel, Stepper, as_float


class BatchedSpotter:
    """`n_streams` independent streams of audio; their states are the rows of one batch.

        spotter = BatchedSpotter("model-batch.onnx", 64)      # exported with --batch-size 0 or 64
        for stream, found in enumerate(spotter.feed(samples)): ...

    A stream's results are the same, bit for bit, whatever the others hear and whenever they hear it: every step takes
    the whole batch, and a stream without a whole block keeps the state it had. So feed streams together where you can.
    """

    def __init__(
        self,
        model: SpotterModel | str | Path,
        n_streams: int,
        *,
        thresholds: Mapping[str, float] | float | None = None,
        fa_per_hour: float | None = None,
        detector: DetectorConfig | None = None,
    ) -> None:
        """Streams at time 0.

        Args:
            model: a loaded model or its file, exported in float32 with `--batch-size 0` or `--batch-size N`.
            n_streams: how many streams a step takes.
            thresholds: for single keywords, or one for all of them; the model's own hold for the rest.
            fa_per_hour: the model's operating point for so many false alarms an hour; None: its default.
            detector: replaces the model's detector configuration.

        Raises:
            ModelError: if the file is not a model to be used here.
            ValueError: for `n_streams` below 1, a threshold out of (0, 1] or of an unknown keyword.
        """
        if n_streams < 1:
            raise KwsError(f"n_streams is {n_streams}; it must be at least 1")
        self.model = model if isinstance(model, SpotterModel) else SpotterModel(model)
        if self.model.metadata.get("precision") == "int8" and n_streams > 1:
            raise ModelError(
                f"{self.model.path} is int8, whose scales are taken over a whole step: a stream would depend on its "
                "neighbours; export it with --precision float32 --batch-size 0"
            )
        config = (detector or self.model.detector_at(fa_per_hour)).with_thresholds(thresholds)
        self._stepper = Stepper(self.model, n_streams)
        self._filled = np.zeros(n_streams, np.int64)  # samples of each stream's next block that lie in the stepper
        self._detectors = [
            Detector(self.model.labels, self.model.frame_length, self.model.sample_rate, config, self.model.block_size)
            for _ in range(n_streams)
        ]

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._detectors)

    def reset(self, stream: int | None = None) -> None:
        """Begin one stream anew at time 0, or all of them."""
        for i in range(len(self)) if stream is None else (stream,):
            self._stepper.state[i] = 0
            self._filled[i] = 0
            self._detectors[i].reset()

    def feed(self, samples: Sequence[Samples] | Samples) -> list[list[Detection]]:
        """The next samples of every stream -> each stream's detections.

        `samples`: for each stream `[n]`, any n, 0 included, float32 in [-1, 1] or int16; so `[n_streams, n]` as well.
        Raises `ValueError` for anything else, NaN and infinity included; all streams are then as they were before.
        """
        if len(samples) != len(self):
            raise KwsError(f"samples are for {len(samples)} streams; give an array for each of the {len(self)}")
        arrays = [as_float(array) for array in samples]
        found: list[list[Detection]] = [[] for _ in arrays]
        taken = [0] * len(arrays)
        waveform, block_size = self._stepper.waveform, self.model.block_size
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
            self._stepper.step()
            if not ready.all():
                self._stepper.state[~ready] = self._stepper.previous[~ready]
            self._filled[ready] = 0
            for i in np.flatnonzero(ready).tolist():
                found[i] += self._detectors[i].process(self._stepper.logits[i])

    def flush(self, stream: int) -> list[Detection]:
        """End one stream: its last samples, zeros to the end of a block, and what was held back. Then `reset` it."""
        rest = np.zeros(-self._filled[stream] % self.model.block_size, np.float32)
        nothing = rest[:0]
        found = self.feed([rest if i == stream else nothing for i in range(len(self))])[stream]
        found += self._detectors[stream].flush()
        self.reset(stream)
        return found
