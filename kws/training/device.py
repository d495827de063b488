"""Where a run computes: one device in this process, or several by lightning-fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kws.config import TrainerConfig
from kws.errors import KwsError

# Precisions that are ours; others are Fabric's. What Fabric does in bf16-mixed also rounds the waveform.
OWN_PRECISIONS = ("auto", "32-true", "bf16-mixed")


def best_precision(device: torch.device) -> str:
    """`bf16-mixed` where `device` computes bfloat16 itself, else `32-true`: emulated, bfloat16 costs time."""
    if device.type == "cuda":
        computed = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        instructions = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        computed = any(instructions.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bf16-mixed" if computed else "32-true"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """A context that computes in bfloat16 where it does no harm, if `precision` is bf16-mixed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


class OneDevice:
    """What a run asks of lightning's `Fabric`, for one process: importing Fabric takes longer than importing torch."""

    world_size, global_rank, is_global_zero = 1, 0, True

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def setup(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """The model to call in training, and its optimizer."""
        return model, optimizer

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`."""
        loss.backward()

    def clip_gradients(
        self, model: nn.Module, optimizer: Optimizer, max_norm: float, error_if_nonfinite: bool
    ) -> Tensor:
        """Shorten the gradient to `max_norm`; its length before."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return nn.utils.clip_grad_norm_(parameters, max_norm, error_if_nonfinite=error_if_nonfinite)

    def broadcast(self, value: Any) -> Any:
        """The first process's `value`."""
        return value

    def all_reduce(self, values: Tensor, reduce_op: str) -> Tensor:
        """The sum or mean of all processes' `values`: of which there is one."""
        return values

    def barrier(self) -> None:
        """Wait for the other processes, of which there are none."""

    def print(self, text: str) -> None:
        """Print once, whatever the number of processes."""
        print(text)


def check_accelerator(options: TrainerConfig) -> torch.device | None:
    """The device of `trainer.accelerator`; None for what Fabric alone knows. Raises `KwsError` for one not there."""
    if options.accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        return None
    found = torch.accelerator.current_accelerator(check_available=True)
    if options.accelerator == "cpu" or (options.accelerator == "auto" and found is None):
        return torch.device("cpu")
    if found is None or options.accelerator not in ("auto", "gpu", found.type):
        raise KwsError(f"trainer.accelerator is {options.accelerator}, and torch finds none; choose cpu")
    return found


def connect(options: TrainerConfig) -> Any:
    """The device or devices of a run: `OneDevice` or, for more of them or another precision, a launched `Fabric`.

    Raises `KwsError` for an accelerator that is not there, or what Fabric refuses.
    """
    started, wanted = int(os.environ.get("WORLD_SIZE", "1")), options.devices * options.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ and started != wanted:
        raise KwsError(
            f"torchrun started {started} processes, and trainer.devices x trainer.num_nodes is {wanted}; give "
            f"trainer.devices={os.environ['LOCAL_WORLD_SIZE']} trainer.num_nodes={os.environ['GROUP_WORLD_SIZE']}"
        )
    own = options.precision in OWN_PRECISIONS
    device = check_accelerator(options)
    if own and device is not None and (options.devices, options.num_nodes) == (1, 1):
        return OneDevice(device)
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        precision="32-true" if own else options.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


@contextmanager
def lost_processes() -> Iterator[None]:
    """Make what the backends of `torch.distributed` say when another process of the run ends one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise KwsError("another process of this run has ended; start all of them again, with resume=true") from error
