"""The keyword spotter: front end, normalisation, classifier in a row; one step function with explicit state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kws.config import (
    BCResNetConfig,
    FrontendConfig,
    ModelConfig,
    RecurrentConfig,
    SpeechEmbeddingConfig,
    whole_frames,
)
from kws.errors import KwsError
from kws.model.bcresnet import BroadcastedClassifier
from kws.model.frontend import Frontend, Normalization
from kws.model.layer import Serial, chain
from kws.model.recurrent import recurrent_classifier
from kws.model.speech_embedding import speech_embedding_classifier

CLASSIFIERS: dict[type[ModelConfig], Callable[[int, int, Any], nn.Module]] = {
    RecurrentConfig: recurrent_classifier,
    SpeechEmbeddingConfig: speech_embedding_classifier,
    BCResNetConfig: BroadcastedClassifier,
}

MOST_PARAMETERS = 100_000_000


class KeywordSpotter(Serial):
    """Front end and classifier: `logits, state = spotter(waveform, state)`."""

    frontend: Frontend
    normalize: Normalization
    classifier: nn.Module

    def __init__(self, frontend: FrontendConfig, model: ModelConfig, labels: Sequence[str]) -> None:
        """Build a spotter for `labels`, in the order of its logits. Raises `KwsError` for too many parameters."""
        with torch.device("meta"):  # counted before memory is taken for them
            planned = CLASSIFIERS[type(model)](frontend.n_features, len(labels), model)
        if (count := sum(parameter.numel() for parameter in planned.parameters())) > MOST_PARAMETERS:
            raise KwsError(f"the model would have {count:,} parameters; there may be at most {MOST_PARAMETERS:,}")
        classifier = CLASSIFIERS[type(model)](frontend.n_features, len(labels), model)
        parts = {"frontend": Frontend(frontend), "normalize": Normalization(frontend.n_features)}
        super().__init__(OrderedDict(**parts, classifier=classifier))
        self.frontend_config, self.model_config, self.labels = frontend, model, tuple(labels)
        self.frame_length = self.stride  # samples for one frame of logits

    def initial_state(self, batch_size: int) -> Tensor:
        """The start of `batch_size` streams: zeros float32 `[batch_size, state_size]`."""
        return self.normalize.mean.new_zeros(batch_size, self.state_size)

    def forward(  # type: ignore[override]
        self, waveform: Tensor, state: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of any length.

        Args:
            waveform: float32 `[B, S]` in [-1, 1]; S is a multiple of `frame_length`.
            state: float32 `[B, state_size]`.
            mask: changes the normalised features `[B, S / hop_length, n_features]` (training only).

        Returns:
            logits float32 `[B, S / frame_length, n_labels]` (bcresnet: `[B, 1, n_labels]`, S a whole clip) and the
            next state.

        Raises:
            ValueError: if S is not a positive multiple of `frame_length`.
        """
        if waveform.shape[-1] % self.frame_length:
            raise KwsError(f"a block of {waveform.shape[-1]} samples is not a multiple of {self.frame_length}")
        masks = [] if mask is None else [mask]
        return chain([self.frontend, self.normalize, *masks, self.classifier], waveform, state)

    def pool(self, logits: Tensor) -> Tensor:
        """Per-frame logits `[B, T, K]` of a clip -> log-probabilities `[B, K]` over its last `pool_ms`.

        `sum`: a softmax over labels and frames together, summed over frames, so frames weigh as their evidence.
        `mean`: the mean of the frames' softmaxes. The numpy twin is `kws.runtime.posteriors.pool_posteriors`.
        """
        logits = logits[:, -self.pool_frames :]
        if self.model_config.pooling == "sum":
            return logits.logsumexp(dim=1).log_softmax(dim=-1)
        return logits.log_softmax(dim=-1).logsumexp(dim=1) - torch.tensor(float(logits.shape[1])).log()

    @property
    def pool_frames(self) -> int:
        """Frames that a clip score is pooled from, at most."""
        return whole_frames(self.model_config.pool_ms, self.frontend_config.sample_rate, self.frame_length)

    @property
    def n_parameters(self) -> int:
        """Trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def fit_normalization(self, batches: Sequence[Tensor]) -> None:
        """Set the feature statistics from waveforms, each float32 `[B, S]`."""
        features = torch.cat(
            [self.frontend(w, w.new_zeros(len(w), self.frontend.state_size))[0].flatten(0, 1) for w in batches]
        )
        self.normalize.fit(features)
