"""The weights of an exported model, named and laid out as the engine multiplies them, read back from its graph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from kws.c.constant_folding import fold_constants
from kws.c.layers import Conv, Layer, Weights, bands_of
from kws.config import FrontendConfig, RecurrentConfig, SpeechEmbeddingConfig, model_from_dict
from kws.errors import KwsError, ModelError
from kws.runtime.contract import contradiction
from kws.runtime.graph_bounds import check_graph
from kws.runtime.onnx_reader import Array, Graph, Node, read_onnx
from kws.system.arrays import Float32

CELLS = {"LSTM": "lstm", "DynamicQuantizeLSTM": "lstm", "GRU": "gru"}  # tanh cells are exported as products
# Gates in the file -> in the engine: LSTM i, o, f, c -> i, f, c, o; GRU z, r, n -> r, z, n.
GATE_ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}


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
        if not isinstance(options := self.metadata.get("model"), dict):
            raise KwsError("its metadata do not describe its model")
        self.model = model_from_dict(options)
        if not isinstance(self.model, RecurrentConfig | SpeechEmbeddingConfig):
            raise KwsError(f"its architecture is {self.model.architecture}, which the engine does not have")
        check_graph(graph)
        self.constants = fold_constants(graph)
        self.users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)

    def weights(self) -> Weights:
        frontend, model = self.frontend, self.model
        found = {node.inputs[1]: layer for node in self.nodes if (layer := self.product(node)) is not None}
        products = list(found.values())
        wanted = {"spectrogram": 1, "log_mel": 2, "mfcc": 3}[frontend.kind]
        if isinstance(model, RecurrentConfig):
            wanted += bool(model.projection_size) + 1 + (2 * model.num_layers if model.cell == "rnn" else 0)
        if len(products) != wanted:
            raise KwsError(f"its graph has {len(products)} products with constants, not {wanted}")
        window, bins = self.window(products.pop(0).weights[:, 0].T)
        mel = products.pop(0).weights[:, 0].T[:bins] if frontend.kind != "spectrogram" else None
        dct = products.pop(0).weights[:, 0] if frontend.kind == "mfcc" else None
        head = products.pop() if products else None
        sub = next(i for i, node in enumerate(self.nodes) if node.op == "Sub")
        div = next(i for i, node in enumerate(self.nodes) if node.op == "Div")
        convs = [self.convolution(node) for node in self.nodes if node.op == "Conv"]
        projection = products.pop(0) if isinstance(model, RecurrentConfig) and model.projection_size else None
        cells = [self.cell(node) for node in self.nodes if node.op in CELLS]
        cells += [_summed(*pair) for pair in zip(products[::2], products[1::2], strict=True)]
        if convs and cells:  # the engine's features lie channel by channel within a band, the file's band by band
            bands = bands_of(frontend.n_features, convs)[-1]
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

    def convolution(self, node: Node) -> Conv:
        """`[out, in, time, bands]` -> rows of time, each `[bands, in]`, as the engine's inputs lie; what follows it.

        A convolution over time alone, `[out, in, time]`, takes what a constant was multiplied with.
        """
        weights = self.constants[node.inputs[1]].astype(np.float32)
        if weights.ndim == 3:
            weights = weights[..., None] * self.factor(node.inputs[0])
        n, _, frames, bands = weights.shape
        bias = self.constants[node.inputs[2]].astype(np.float32) if len(node.inputs) > 2 else np.zeros(n, np.float32)
        layer = Layer(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)).reshape(n, frames, -1), bias)
        pads, strides = ([*node.attributes[name], 0][:2] for name in ("pads", "strides"))
        slope, least, pool = 1.0, -float(np.finfo(np.float32).max), [1, 1]
        while (after := self.activation(node)) is not None:
            node = after
            if node.op == "Relu":
                slope, least = 0.0, 0.0
            elif node.op == "LeakyRelu":
                slope = node.attributes["alpha"]
            elif node.op == "Clip":
                least = float(self.constants[node.inputs[1]])
            else:
                pool = node.attributes["kernel_shape"]
                if node.attributes["strides"] != pool:
                    raise KwsError("its poolings overlap")
        return Conv(layer, bands, pads[1], max(strides[1], 1), strides[0], pool[0], pool[1], slope, least)

    def activation(self, node: Node) -> Node | None:
        """What a convolution's result goes through next before it is another layer's input."""
        users = self.users.get(node.outputs[0], [])
        return next((n for n in users if n.op in ("Relu", "LeakyRelu", "Clip", "MaxPool")), None)

    def factor(self, name: str) -> np.float32:
        """What the input of a convolution over time was multiplied with."""
        makers = {output: node for node in self.nodes for output in node.outputs}
        while (node := makers.get(name)) is not None and node.op in ("Transpose", "Concat"):
            name = node.inputs[-1]
        if node is None or node.op != "Mul" or self.constants[node.inputs[1]].size != 1:
            raise KwsError("what its last convolution hears is not scaled by a number")
        return np.float32(self.constants[node.inputs[1]].item())

    def cell(self, node: Node) -> tuple[Layer, Layer]:
        kind, model = CELLS[node.op], self.model
        assert isinstance(model, RecurrentConfig)
        if kind != model.cell or (kind == "gru" and node.attributes.get("linear_before_reset") != 1):
            raise KwsError(f"its cell is {node.op}; its metadata say {model.cell}")
        x, h = (self.constants[name][0].astype(np.float32) for name in node.inputs[1:3])
        if node.op == "DynamicQuantizeLSTM":  # stored transposed, with scales [4 * hidden]
            if any(self.constants[node.inputs[i]].any() for i in (9, 11)):
                raise KwsError("its LSTM's weights are not symmetric")
            x, h = x.T * self.constants[node.inputs[8]].T, h.T * self.constants[node.inputs[10]].T
        order, n = GATE_ORDER[kind], model.hidden_size

        def gates(array: Array) -> Float32:
            ordered = array.reshape(len(order), n, -1)[list(order)].reshape(len(order) * n, -1)
            return np.ascontiguousarray(ordered, np.float32)

        biases = self.constants[node.inputs[3]][0].astype(np.float32).reshape(2, -1)
        input_bias, recurrent_bias = (gates(bias).ravel() for bias in biases)
        pair = Layer(gates(x)[:, None, :], input_bias), Layer(gates(h)[:, None, :], recurrent_bias)
        return pair if kind == "gru" else _summed(*pair)

    def check(self, w: Weights) -> None:
        """Every shape must be what the options say."""
        features, labels, bands = self.frontend.n_features, len(self.metadata["labels"]), w.bands
        size, into = features, 1
        for conv, n in zip(w.convs, bands, strict=False):
            shape = (conv.channels, conv.frames, conv.bands * into)
            if conv.layer.weights.shape != shape or n + 2 * conv.padding < conv.bands:
                raise KwsError(f"its convolution has shape {conv.layer.weights.shape}, not {shape}")
            into = conv.channels
        size = bands[-1] * into
        stride = math.prod(conv.frame_stride * conv.pool_frames for conv in w.convs)
        layers: list[Layer] = []
        expected: list[tuple[int, ...]] = []
        if isinstance(self.model, RecurrentConfig):
            layers, expected = self.recurrent_shapes(w, size, labels)
        elif w.cells or w.head or (size, into) != (labels, labels):
            raise KwsError("its last convolution does not give its labels")
        if [layer.weights.shape for layer in layers] != expected:
            raise KwsError(f"its layers are {[layer.weights.shape for layer in layers]}, not {expected}")
        if any(layer.bias.shape != layer.weights.shape[:1] for layer in (*layers, *(c.layer for c in w.convs))):
            raise KwsError("its biases do not fit its layers")
        if w.mean.shape != (features,) or w.std.shape != (features,) or not (w.std > 0).all():
            raise KwsError(f"its features' mean and deviation are not {features} numbers each")
        if w.mel is not None and w.mel.shape != (w.bins, self.frontend.n_mels):
            raise KwsError(f"its mel filters have shape {list(w.mel.shape)}")
        if w.dct is not None and w.dct.shape != (self.frontend.n_mfcc, self.frontend.n_mels):
            raise KwsError(f"its DCT has shape {list(w.dct.shape)}")
        frame_length = self.frontend.hop_length * stride
        if self.metadata["frame_length"] != frame_length:
            raise KwsError(f"its frame_length is {self.metadata['frame_length']}, but its graph gives {frame_length}")

    def recurrent_shapes(self, w: Weights, size: int, labels: int) -> tuple[list[Layer], list[tuple[int, ...]]]:
        """The layers behind the convolutions, which give `size` numbers, and the shapes that the options say."""
        model = self.model
        assert isinstance(model, RecurrentConfig)
        if model.speech_convs:
            fits = len(w.convs) == model.speech_convs
        else:
            fits = [conv.channels for conv in w.convs] == model.conv_channels
        if not fits or w.head is None:
            raise KwsError("its convolutions are not those that its metadata say")
        gates, expected = len(GATE_ORDER[model.cell]) * model.hidden_size, []
        layers = [] if w.projection is None else [w.projection]
        if w.projection is not None:
            expected, size = [(model.projection_size, 1, size)], model.projection_size
        for _ in range(model.num_layers):
            expected += [(gates, 1, size), (gates, 1, model.hidden_size)]
            size = model.hidden_size
        layers += [layer for cell in w.cells for layer in cell]
        return [*layers, w.head], [*expected, (labels, 1, size)]


def _summed(x: Layer, h: Layer) -> tuple[Layer, Layer]:
    """A cell's products whose results are added: both biases in the first."""
    return Layer(x.weights, x.bias + h.bias), Layer(h.weights, np.zeros_like(h.bias))


def _channels_last(layer: Layer, bands: int) -> Layer:
    """Inputs `[channels, bands]` -> `[bands, channels]`."""
    outputs, _, length = layer.weights.shape
    turned = layer.weights.reshape(outputs, -1, bands).transpose(0, 2, 1).reshape(outputs, 1, length)
    return Layer(np.ascontiguousarray(turned), layer.bias)
