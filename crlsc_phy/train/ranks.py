"""Rank of this process among those that ``torchrun`` has started; without it, this one is the first and only one."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import distributed

__all__ = ["is_first_rank", "join", "rank", "wait_for_all", "world_size"]


def join() -> None:
    """Join the other processes if ``torchrun`` has started any."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not distributed.is_initialized():
        # The others wait while the first one embeds, which takes hours where there is much.
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=7))


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first_rank() -> bool:
    """Return whether this process is the one that writes results."""
    return rank() == 0


def wait_for_all() -> None:
    """Wait until all processes have called this."""
    if world_size() > 1:
        distributed.barrier()
