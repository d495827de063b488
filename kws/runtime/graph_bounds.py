"""What a step of a graph costs, found from shapes alone before anything runs it: a model file may be a stranger's.

Its operators must be those that `kws export` writes, which neither loop nor branch. Then every shape follows from those
of the inputs, and so do the memory and the time of a step, which are bounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws.errors import KwsError
from kws.runtime.onnx_reader import Array, Graph, Node

MOST_NUMBERS = 1 << 26  # in all arrays of a step together
MOST_PRODUCTS = 1 << 32  # multiplications of a step
MOST_DIMS = 8

Shape = tuple[int, ...]


@dataclass
class _Step:
    """One node, and what is known of the values before it."""

    node: Node
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array]

    def shape(self, i: int) -> Shape:
        return self.shapes[self.node.inputs[i]]

    def numbers(self, i: int) -> list[Any]:
        """An input that decides a shape, and so must be a constant of the file."""
        return list(self.constants[self.node.inputs[i]].ravel().tolist())

    def given(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)


Rule = Callable[[_Step], tuple[Sequence[Shape], int]]  # shapes of what comes out, and multiplications


def check_graph(graph: Graph) -> None:
    """Raise `KwsError` for an operator that no export has, or for a step that takes too much memory or time.

    An input's free dimension counts as 1.
    """
    shapes: dict[str, Shape] = {name: array.shape for name, array in graph.constants.items()}
    shapes |= {name: tuple(size or 1 for size in shape) for name, shape in graph.inputs.items()}
    numbers, products = sum(map(math.prod, shapes.values())), 0
    for node in graph.nodes:
        if (rule := RULES.get(node.op)) is None or node.domain != DOMAINS.get(node.op, ""):
            name = ".".join(filter(None, (node.domain, node.op)))
            raise KwsError(f"its operator {name[:100]!r} is none that kws export writes")
        try:
            made, cost = rule(_Step(node, shapes, graph.constants))
        except (ArithmeticError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise KwsError(f"its {node.op} does not fit what it is given") from error
        for name, shape in zip(node.outputs, made, strict=False):
            if len(shape) > MOST_DIMS or any(size < 0 for size in shape):
                raise KwsError(f"its {node.op} gives an array of no possible shape")
            shapes[name] = shape
            numbers += math.prod(shape)
        products += cost
        if numbers > MOST_NUMBERS:
            raise KwsError(f"a step of it takes more than {MOST_NUMBERS} numbers of memory")
        if products > MOST_PRODUCTS:
            raise KwsError(f"a step of it takes more than {MOST_PRODUCTS} multiplications")


def _broadcast(*shapes: Shape) -> Shape:
    found = []
    for sizes in itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        several = set(sizes) - {1}
        if len(several) > 1:
            raise KwsError(str(shapes))
        found.append(several.pop() if several else 1)
    return tuple(reversed(found))


def _same(step: _Step) -> tuple[Sequence[Shape], int]:
    return [step.shape(0)], 0


def _elementwise(step: _Step) -> tuple[Sequence[Shape], int]:
    return [_broadcast(step.shape(0), step.shape(1))], 0


def _matmul(step: _Step) -> tuple[Sequence[Shape], int]:
    a, b = step.shape(0), step.shape(1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise KwsError(str((a, b)))
    shape = (*_broadcast(a[:-2], b[:-2]), a[-2], b[-1])
    return [shape], math.prod(shape) * a[-1]


def _windows(step: _Step, sizes: Shape, kernel: Sequence[int]) -> list[int]:
    """How often a kernel fits into each of the sizes."""
    if step.given("auto_pad", b"NOTSET") != b"NOTSET" or step.given("ceil_mode", 0) != 0:
        raise KwsError(str(step.node.op))
    n = len(kernel)
    strides, dilations = (step.given(name, [1] * n) for name in ("strides", "dilations"))
    pads = step.given("pads", [0] * 2 * n)
    if (
        not len(sizes) == len(strides) == len(dilations) == len(pads) // 2 == n
        or min(*strides, *dilations, *kernel) < 1
    ):
        raise KwsError(str(step.node.op))
    return [
        (size + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, size in enumerate(sizes)
    ]


def _conv(step: _Step) -> tuple[Sequence[Shape], int]:
    x, weights = step.shape(0), step.shape(1)
    shape = (x[0], weights[0], *_windows(step, x[2:], weights[2:]))
    return [shape], math.prod(shape) * math.prod(weights[1:])


def _max_pool(step: _Step) -> tuple[Sequence[Shape], int]:
    x, kernel = step.shape(0), step.given("kernel_shape")
    shape = (*x[:2], *_windows(step, x[2:], kernel))
    return [shape], math.prod(shape) * math.prod(kernel)


def _cell(step: _Step) -> tuple[Sequence[Shape], int]:
    frames, streams, size = step.shape(0)
    directions, hidden = step.shape(2)[0], int(step.given("hidden_size"))
    if step.given("layout", 0) != 0 or not 0 < directions <= 2 or hidden < 1:
        raise KwsError(str(step.node.op))
    last = (directions, streams, hidden)
    gates = 3 if step.node.op == "GRU" else 4
    return [(frames, directions, streams, hidden), last, last], frames * math.prod(last) * gates * (size + hidden)


def _reshape(step: _Step) -> tuple[Sequence[Shape], int]:
    x, wanted = step.shape(0), step.numbers(1)
    keeps = not step.given("allowzero", 0)
    wanted = [x[i] if size == 0 and keeps else size for i, size in enumerate(wanted)]
    if -1 in wanted:
        wanted[wanted.index(-1)] = math.prod(x) // -math.prod(wanted)
    if math.prod(wanted) != math.prod(x):
        raise KwsError(str(x))
    return [tuple(wanted)], 0


def _slice(step: _Step) -> tuple[Sequence[Shape], int]:
    shape = list(step.shape(0))
    starts, ends = step.numbers(1), step.numbers(2)
    axes = step.numbers(3) if len(step.node.inputs) > 3 else range(len(starts))
    steps = step.numbers(4) if len(step.node.inputs) > 4 else [1] * len(starts)
    for start, end, axis, by in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = len(range(*slice(start, end, by).indices(shape[axis])))
    return [tuple(shape)], 0


def _split(step: _Step) -> tuple[Sequence[Shape], int]:
    shape, axis = step.shape(0), step.given("axis", 0)
    parts = step.numbers(1)
    if sum(parts) != shape[axis]:
        raise KwsError(str(shape))
    return [tuple(part if i == axis % len(shape) else size for i, size in enumerate(shape)) for part in parts], 0


def _concat(step: _Step) -> tuple[Sequence[Shape], int]:
    parts = [step.shape(i) for i in range(len(step.node.inputs))]
    shape, axis = list(parts[0]), step.given("axis")
    shape[axis] = sum(part[axis] for part in parts)
    return [tuple(shape)], 0


def _transpose(step: _Step) -> tuple[Sequence[Shape], int]:
    shape = step.shape(0)
    order = step.given("perm", [*reversed(range(len(shape)))])
    if sorted(order) != [*range(len(shape))]:
        raise KwsError(str(order))
    return [tuple(shape[axis] for axis in order)], 0


def _gather(step: _Step) -> tuple[Sequence[Shape], int]:
    shape, axis = step.shape(0), step.given("axis", 0) % len(step.shape(0))
    return [(*shape[:axis], *step.shape(1), *shape[axis + 1 :])], 0


def _range(step: _Step) -> tuple[Sequence[Shape], int]:
    (start,), (stop,), (by,) = (step.numbers(i) for i in range(3))
    return [(max(0, math.ceil((stop - start) / by)),)], 0


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Cast", "Clip", "Cos", "LeakyRelu", "Log", "Relu", "ScatterND", "Sin", "Tanh"), _same),
    **dict.fromkeys(("Add", "Div", "Mod", "Mul", "Sub"), _elementwise),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matmul),
    **dict.fromkeys(("DynamicQuantizeLSTM", "GRU", "LSTM"), _cell),
    "Concat": _concat,
    "ConstantOfShape": lambda step: ([tuple(step.numbers(0))], 0),
    "Conv": _conv,
    "DynamicQuantizeLinear": lambda step: ([step.shape(0), (), ()], 0),
    "Gather": _gather,
    "MaxPool": _max_pool,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
DOMAINS = {"DynamicQuantizeLSTM": "com.microsoft"}  # of operators that are not ONNX's own
