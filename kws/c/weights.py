"""The weights of an exported model, named and laid out as the engine multiplies them, read back from its graph."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.c.constant_folding import fold_constants
from kws.c.onnx_reader import Array, Graph, Node, read_onnx
from kws.config import FrontendConfig, RecurrentConfig, model_from_dict
from kws.errors import KwsError, ModelError
from kws.runtime.contract import contradiction
from kws.system.arrays import Float32

CELLS = {"LSTM": "lstm", "DynamicQuantizeLSTM": "lstm", "GRU": "gru"}  # tanh cells are exported as products
# Gates in the file -> in the engine: LSTM i, o, f, c -> i, f, c, o; GRU z, r, n -> r, z, n.
GATE_ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}


@dataclass(frozen=True)
class Layer:
    """One product. weights float32 `[outputs, rows, length]`, bias float32 `[outputs]`."""

    weights: Float32
    bias: Float32


@dataclass(frozen=True)
class Weights:
    """Everything that a block holds, and the metadata of the file that it is from.

    window `[win_length]`, mel `[bins, n_mels]` or None, dct `[n_mfcc, n_mels]` or None, mean and std `[n_features]`;
    bins: frequency bins of the DFT that are used. cells: for each recurrent layer its input and its recurrent product.
    """

    metadata: dict[str, Any]
    frontend: FrontendConfig
    model: RecurrentConfig
    bins: int
    window: Float32
    mel: Float32 | None
    dct: Float32 | None
    mean: Float32
    std: Float32
    convs: list[Layer]
    projection: Layer | None
    cells: list[tuple[Layer, Layer]]
    head: Layer

    @property
    def bands(self) -> list[int]:
        """Bands that go into each convolution, and those that come out of the last."""
        return _bands(self.frontend, self.model)


def read_weights(path: Path) -> Weights:
    """The weights of an exported `waveform` model, float32 or int8.

    Raises `ModelError`, naming the file, if it is none, or if its graph is not the one that its metadata describe.
    """
    graph = read_onnx(path)
    try:
        return _Reader(graph).weights()
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise ModelError(f"{path} cannot be run by the C engine: {error}") from error


class _Reader:
    """One graph on its way to `Weights`; what does not fit raises `KwsError`."""

    def __init__(self, graph: Graph) -> None:
        self.metadata, self.nodes = graph.metadata, graph.nodes
        if what := contradiction(self.metadata):
            raise KwsError(what)
        if self.metadata.get("variant", "waveform") != "waveform":
            raise KwsError("it takes features, not audio; export it with variant waveform")
        self.frontend = FrontendConfig(**self.metadata["frontend"])
        model = model_from_dict(self.metadata["model"])
        if not isinstance(model, RecurrentConfig):
            raise KwsError(f"its architecture is {model.architecture}; the engine has recurrent models")
        self.model = model
        self.constants = fold_constants(graph)
        self.users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)

    def weights(self) -> Weights:
        frontend, model = self.frontend, self.model
        found = {node.inputs[1]: layer for node in self.nodes if (layer := self.product(node)) is not None}
        products = list(found.values())
        wanted = {"spectrogram": 1, "log_mel": 2, "mfcc": 3}[frontend.kind] + bool(model.projection_size) + 1
        wanted += 2 * model.num_layers if model.cell == "rnn" else 0
        if len(products) != wanted:
            raise KwsError(f"its graph has {len(products)} products with constants, not {wanted}")
        window, bins = self.window(products.pop(0).weights[:, 0].T)
        mel = products.pop(0).weights[:, 0].T[:bins] if frontend.kind != "spectrogram" else None
        dct = products.pop(0).weights[:, 0] if frontend.kind == "mfcc" else None
        head = products.pop()
        sub = next(i for i, node in enumerate(self.nodes) if node.op == "Sub")
        div = next(i for i, node in enumerate(self.nodes) if node.op == "Div")
        convs = [self.convolution(node) for node in self.nodes if node.op == "Conv"]
        projection = products.pop(0) if model.projection_size else None
        cells = [self.cell(node) for node in self.nodes if node.op in CELLS]
        cells += [_summed(*pair) for pair in zip(products[::2], products[1::2], strict=True)]
        if convs:  # the engine's features lie channel by channel within a band, the file's band by band
            bands = _bands(frontend, model)[-1]
            if projection is not None:
                projection = _channels_last(projection, bands)
            else:
                cells[0] = _channels_last(cells[0][0], bands), cells[0][1]
        weights = Weights(
            metadata=self.metadata,
            frontend=frontend,
            model=model,
            bins=bins,
            window=window,
            mel=mel,
            dct=dct,
            mean=self.constants[self.nodes[sub].inputs[1]].astype(np.float32).ravel(),
            std=self.constants[self.nodes[div].inputs[1]].astype(np.float32).ravel(),
            convs=convs,
            projection=projection,
            cells=cells,
            head=head,
        )
        self.check(weights)
        return weights

    def window(self, dft: Float32) -> tuple[Float32, int]:
        """The window and the number of bins in a DFT matrix `[win_length, 2 * bins]`, checked to be one."""
        win_length, bins = self.frontend.win_length, dft.shape[1] // 2
        if dft.shape != (win_length, 2 * bins) or not 1 <= bins <= self.frontend.n_bins:
            raise KwsError(f"its DFT has shape {list(dft.shape)}; its window is {win_length} samples")
        window = dft[:, 0].copy()
        angle = np.outer(np.arange(win_length), np.arange(bins)) * (2 * math.pi / self.frontend.n_fft)
        expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * window[:, None]
        if not np.allclose(dft, expected, rtol=0, atol=1e-4):
            raise KwsError("its first product is not a DFT")
        return window, bins

    def product(self, node: Node) -> Layer | None:
        """The layer of a node that multiplies with a constant matrix, with the bias that is added next."""
        if node.op == "MatMul" and node.inputs[1] in self.constants:
            weights = self.constants[node.inputs[1]].astype(np.float32)
            after = node
        elif node.op == "MatMulInteger":
            # DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul with (scale of the step * scale of the weights)
            zero = self.constants[node.inputs[3]].astype(np.float32)
            cast = self.user(node, "Cast")
            after = self.user(cast, "Mul")
            other = next(name for name in after.inputs if name not in cast.outputs)
            scaling = next(n for n in self.nodes if other in n.outputs)
            scale = self.constant_input(scaling)
            weights = (self.constants[node.inputs[1]].astype(np.float32) - zero) * scale
        else:
            return None
        added = [n for n in self.users.get(after.outputs[0], []) if n.op == "Add"]
        bias = self.constant_input(added[0]).ravel() if added else np.zeros(0, np.float32)
        if bias.size != weights.shape[-1]:
            bias = np.zeros(weights.shape[-1], np.float32)  # the front end's products have none
        return Layer(np.ascontiguousarray(weights.T)[:, None, :], bias)

    def user(self, node: Node, op: str) -> Node:
        return next(n for n in self.users[node.outputs[0]] if n.op == op)

    def constant_input(self, node: Node) -> Float32:
        return self.constants[next(name for name in node.inputs if name in self.constants)].astype(np.float32)

    def convolution(self, node: Node) -> Layer:
        """`[out, in, time, bands]` -> rows of time, each `[bands, in]`, as the engine's inputs lie."""
        weights = self.constants[node.inputs[1]].astype(np.float32)
        n = len(weights)
        bias = self.constants[node.inputs[2]].astype(np.float32) if len(node.inputs) > 2 else np.zeros(n, np.float32)
        return Layer(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)).reshape(n, weights.shape[2], -1), bias)

    def cell(self, node: Node) -> tuple[Layer, Layer]:
        kind = CELLS[node.op]
        if kind != self.model.cell or (kind == "gru" and node.attributes.get("linear_before_reset") != 1):
            raise KwsError(f"its cell is {node.op}; its metadata say {self.model.cell}")
        x, h = (self.constants[name][0].astype(np.float32) for name in node.inputs[1:3])
        if node.op == "DynamicQuantizeLSTM":  # stored transposed, with scales [4 * hidden]
            if any(self.constants[node.inputs[i]].any() for i in (9, 11)):
                raise KwsError("its LSTM's weights are not symmetric")
            x, h = x.T * self.constants[node.inputs[8]].T, h.T * self.constants[node.inputs[10]].T
        order, n = GATE_ORDER[kind], self.model.hidden_size

        def gates(array: Array) -> Float32:
            ordered = array.reshape(len(order), n, -1)[list(order)].reshape(len(order) * n, -1)
            return np.ascontiguousarray(ordered, np.float32)

        biases = self.constants[node.inputs[3]][0].astype(np.float32).reshape(2, -1)
        input_bias, recurrent_bias = (gates(bias).ravel() for bias in biases)
        pair = Layer(gates(x)[:, None, :], input_bias), Layer(gates(h)[:, None, :], recurrent_bias)
        return pair if kind == "gru" else _summed(*pair)

    def check(self, w: Weights) -> None:
        """Every shape must be what the options say."""
        model, features = self.model, self.frontend.n_features
        bands, channels, kernel = w.bands, [1, *model.conv_channels], model.conv_kernel
        gates = len(GATE_ORDER[model.cell]) * model.hidden_size
        size = bands[-1] * channels[-1]
        expected = [(out, kernel, kernel * into) for into, out in itertools.pairwise(channels)]
        layers = list(w.convs)
        if w.projection is not None:
            layers, expected = [*layers, w.projection], [*expected, (model.projection_size, 1, size)]
            size = model.projection_size
        for _ in range(model.num_layers):
            expected += [(gates, 1, size), (gates, 1, model.hidden_size)]
            size = model.hidden_size
        layers += [layer for cell in w.cells for layer in cell]
        layers, expected = [*layers, w.head], [*expected, (len(self.metadata["labels"]), 1, size)]
        if [layer.weights.shape for layer in layers] != expected:
            raise KwsError(f"its layers are {[layer.weights.shape for layer in layers]}, not {expected}")
        if any(layer.bias.shape != layer.weights.shape[:1] for layer in layers):
            raise KwsError("its biases do not fit its layers")
        if w.mean.shape != (features,) or w.std.shape != (features,) or not (w.std > 0).all():
            raise KwsError(f"its features' mean and deviation are not {features} numbers each")
        if w.mel is not None and w.mel.shape != (w.bins, self.frontend.n_mels):
            raise KwsError(f"its mel filters have shape {list(w.mel.shape)}")
        if w.dct is not None and w.dct.shape != (self.frontend.n_mfcc, self.frontend.n_mels):
            raise KwsError(f"its DCT has shape {list(w.dct.shape)}")
        frame_length = self.frontend.hop_length * model.time_stride
        if self.metadata["frame_length"] != frame_length:
            raise KwsError(f"its frame_length is {self.metadata['frame_length']}, but its options give {frame_length}")


def _bands(frontend: FrontendConfig, model: RecurrentConfig) -> list[int]:
    found, kernel = [frontend.n_features], model.conv_kernel
    for _ in model.conv_channels:
        found.append((found[-1] + 2 * (kernel // 2) - kernel) // 2 + 1)
    return found


def _summed(x: Layer, h: Layer) -> tuple[Layer, Layer]:
    """A cell's products whose results are added: both biases in the first."""
    return Layer(x.weights, x.bias + h.bias), Layer(h.weights, np.zeros_like(h.bias))


def _channels_last(layer: Layer, bands: int) -> Layer:
    """Inputs `[channels, bands]` -> `[bands, channels]`."""
    outputs, _, length = layer.weights.shape
    turned = layer.weights.reshape(outputs, -1, bands).transpose(0, 2, 1).reshape(outputs, 1, length)
    return Layer(np.ascontiguousarray(turned), layer.bias)
