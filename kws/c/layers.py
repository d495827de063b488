"""What a block of weights holds: products of matrices, convolutions, and all that stands around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kws.config import FrontendConfig, ModelConfig
from kws.system.arrays import Float32


@dataclass(frozen=True)
class Layer:
    """One product. weights float32 `[outputs, rows, length]`, bias float32 `[outputs]`."""

    weights: Float32
    bias: Float32


@dataclass(frozen=True)
class Conv:
    """A convolution, causal in time: what `kws_conv_shape` of kws.h says, and its product with a row for each frame."""

    layer: Layer
    bands: int
    padding: int
    band_stride: int
    frame_stride: int
    pool_frames: int = 1
    pool_bands: int = 1
    slope: float = 0.0
    least: float = 0.0

    @property
    def channels(self) -> int:
        """That come out of it."""
        return len(self.layer.bias)

    @property
    def frames(self) -> int:
        """That it takes at once."""
        return int(self.layer.weights.shape[1])

    def made_bands(self, bands: int) -> int:
        """What comes of so many bands before they are pooled."""
        return (bands + 2 * self.padding - self.bands) // self.band_stride + 1


@dataclass(frozen=True)
class Weights:
    """Everything that a block holds, and the metadata of the file that it is from.

    window `[win_length]`, mel `[bins, n_mels]` or None, dct `[n_mfcc, n_mels]` or None, mean and std `[n_features]`;
    bins: frequency bins of the DFT that are used. cells: for each recurrent layer its input and its recurrent product;
    where there is none, the last convolution gives the logits.
    """

    metadata: dict[str, Any]
    frontend: FrontendConfig
    model: ModelConfig
    bins: int
    window: Float32
    mel: Float32 | None
    dct: Float32 | None
    mean: Float32
    std: Float32
    convs: list[Conv]
    projection: Layer | None
    cells: list[tuple[Layer, Layer]]
    head: Layer | None

    @property
    def bands(self) -> list[int]:
        """Bands that go into each convolution, and those that come out of the last."""
        return bands_of(self.frontend.n_features, self.convs)


def bands_of(n_features: int, convs: list[Conv]) -> list[int]:
    """Bands that go into each convolution, and those that come out of the last."""
    found = [n_features]
    for conv in convs:
        found.append(conv.made_bands(found[-1]) // conv.pool_bands)
    return found
