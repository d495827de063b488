"""The contract `y, next_state = layer(x, state)`; layers in a row; the check that every layer passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Layer(Protocol):
    """A function of a stream that comes in blocks, whatever their lengths, and of nothing else: no modes, no clock."""

    state_size: int  # numbers that a lane carries from block to block
    stride: int  # steps of x that make one step of y; a block is a whole number of them

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next block of a stream, and float32 state `[B, state_size]`; its zeros are the start of a stream."""
        ...

    def __call__(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The same, as `nn.Module` calls it."""
        ...


def chain(layers: Iterable[Callable[..., Any]], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`x` through `layers`, one after another; `state` is theirs, joined in their order.

    What is no `Layer` is a function of each step alone, `y = f(x)`: it has no state and keeps the number of steps.
    """
    layers = list(layers)
    sizes = [layer.state_size for layer in layers if isinstance(layer, Layer)]
    states = list(state.split(sizes, dim=1)) if len(sizes) > 1 else [state]
    next_states: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, Layer):
            x, next_state = layer(x, states[len(next_states)])
            next_states.append(next_state)
        else:
            x = layer(x)
    if len(sizes) > 1:
        return x, torch.cat(next_states, dim=1)
    return x, next_states[0] if next_states else state


class Serial(nn.Sequential):
    """A `Layer` made of modules in a row, as in `chain`; its state is theirs in their order."""

    @property
    def state_size(self) -> int:
        """Of all layers together."""
        return sum(layer.state_size for layer in self if isinstance(layer, Layer))

    @property
    def stride(self) -> int:
        """Steps of x that make one step of y."""
        product = 1
        for layer in self:
            product *= layer.stride if isinstance(layer, Layer) else 1
        return product

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """See `Layer`."""
        return chain(self, x, state)


@torch.no_grad()
def verify_contract(
    layer: Layer, x: Tensor, generator: torch.Generator, time_axis: int = 1, tolerance: float = 1e-5
) -> None:
    """Raise `AssertionError` where `layer` is not what `Layer` says.

    Checked, from zeros and from a state amid a stream: the sizes of y and of the state; any cut of x into blocks gives
    the same y and last state; a lane alone gives what it gives among others; a new stream owes nothing to the one
    before; arguments are left as they were.

    Args:
        layer: in evaluation mode.
        x: a block of at least two lanes and three times `layer.stride` steps, lanes first; it must not be constant.
        generator: draws the cuts.
        time_axis: of the steps, in x and y alike.
        tolerance: largest difference, absolute and relative.
    """

    def same(ours: Tensor, theirs: Tensor, what: str) -> None:
        torch.testing.assert_close(
            ours, theirs, atol=tolerance, rtol=tolerance, msg=lambda found: f"{type(layer).__name__}, {what}: {found}"
        )

    lanes, stride = len(x), layer.stride
    steps = x.shape[time_axis] // stride
    zeros = x.new_zeros(lanes, layer.state_size, dtype=torch.float32)
    given = x.clone()
    fresh, amid = layer(x, zeros)
    if layer.state_size:
        assert amid.any(), f"{type(layer).__name__} has a state that nothing changes"
    for state in (zeros, amid):
        before = state.clone()
        y, last = layer(x, state)
        assert y.shape[time_axis] == steps, f"{type(layer).__name__} makes {y.shape[time_axis]} steps, not {steps}"
        assert last.shape == state.shape, f"the state of {type(layer).__name__} becomes {list(last.shape)}"
        assert torch.equal(x, given), f"{type(layer).__name__} changes its input"
        assert torch.equal(state, before), f"{type(layer).__name__} changes the state that it is given"
        assert last.dtype == torch.float32, f"the state of {type(layer).__name__} becomes {last.dtype}"
        for n_cuts in range(1, min(4, steps)):
            cuts = (torch.randperm(steps - 1, generator=generator)[:n_cuts] + 1).sort().values * stride
            parts, carried = [], state
            for block in x.tensor_split(cuts.tolist(), dim=time_axis):
                part, carried = layer(block, carried)
                parts.append(part)
            same(torch.cat(parts, time_axis), y, f"cut at {cuts.tolist()}")
            same(carried, last, f"state, cut at {cuts.tolist()}")
        for lane in range(lanes):
            own = slice(lane, lane + 1)
            alone, alone_state = layer(x[own], state[own])
            same(alone, y[own], f"lane {lane} alone")
            same(alone_state, last[own], f"state of lane {lane} alone")
    same(layer(x, zeros)[0], fresh, "a new stream after another")
