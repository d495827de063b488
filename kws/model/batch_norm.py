"""Batch normalisation whose statistics are those of the whole batch, whatever processes share it.

torch's `SyncBatchNorm` does that on GPUs alone, and has to be put in the place of what a model was built with.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """`nn.BatchNorm1d` and `2d`; in training, every process of a run calls it with as many values as the others."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, ...]` -> the same shape, each channel normalised."""
        if not (self.training and torch.distributed.is_available() and torch.distributed.is_initialized()):
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        world_size, values, axes = torch.distributed.get_world_size(), x.float(), [0, *range(2, x.ndim)]
        mean, square = all_reduce(torch.stack([values.mean(axes), values.square().mean(axes)])) / world_size
        variance = square - mean.square()
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            n = world_size * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        each = (-1, *[1] * (x.ndim - 2))
        return (values * scale.view(each) + (self.bias - mean * scale).view(each)).to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        pass
