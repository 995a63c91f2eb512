"""Features of many pictures, computed in shards on this machine's cores or on a Ray cluster through joblib.

Each shard is a file, so that an interrupted embedding resumes with the missing ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crlsc_phy.cluster import ray_workers
from crlsc_phy.data.store import watched
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_array
from crlsc_phy.images import UInt8Image
from crlsc_phy.semantic.teacher import Tower, load_tower, takes_any_size

__all__ = ["embed"]

SHARD = 512
BATCH = 64
ROUND = 2
"""Shards of each worker between two writes: Ray's backend returns nothing before all are finished."""


def embed(
    images: UInt8Image, tower: str, pixels: int, folder: Path, jobs: int = 1, ray: str = "", threads: int = 1
) -> Tensor:
    """Compute the features of pictures by a tower.

    Args:
        images: uint8 [N, H, W, 3].
        tower: See :func:`crlsc_phy.semantic.teacher.load_tower`.
        pixels: Side in pixels that pictures are resized to, for towers without a size of their own.
        folder: Folder of the shards; existing shards of the same pictures and tower are used.
        jobs: Number of processes on this machine. On a Ray cluster, number of concurrent tasks; 1 stands for the number
            of its CPUs.
        ray: Address of a Ray cluster, ``local`` to start one here; empty for none.
        threads: Threads of each process.

    Returns:
        float32 [N, F] of unit norm.

    Raises:
        TrainingError: If the tower cannot be loaded, or Ray is not installed or cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = [images[start : start + SHARD] for start in range(0, len(images), SHARD)]
    paths = [folder / f"{_name(shard, tower, pixels)}.npy" for shard in shards]
    missing = [(shard, path) for shard, path in zip(shards, paths, strict=True) if not path.exists()]
    if missing:
        with _workers(jobs, ray) as (parallel, count):
            rounds = range(0, len(missing), ROUND * count)
            for start in watched(rounds, f"{tower} at {pixels} px", len(rounds)):
                part = missing[start : start + ROUND * count]
                work = (joblib.delayed(_features)(shard, tower, pixels, threads) for shard, _ in part)
                # A worker elsewhere may not see this machine's disk: the features come back and are written here.
                for (_, path), features in zip(part, parallel(work), strict=True):
                    write_array(path, features)
    return torch.from_numpy(np.concatenate([np.load(path, allow_pickle=False) for path in paths]))


def _name(shard: UInt8Image, tower: str, pixels: int) -> str:
    size = pixels if takes_any_size(tower) else "own size"
    digest = hashlib.sha256(f"{tower} {size} {shard.shape}".encode())
    digest.update(np.ascontiguousarray(shard).data)
    return digest.hexdigest()[:32]


@cache
def _tower(name: str, pixels: int) -> Tower:
    return load_tower(name, pixels)


def _features(shard: UInt8Image, tower: str, pixels: int, threads: int) -> npt.NDArray[np.float32]:
    torch.set_num_threads(threads)
    network = _tower(tower, pixels)
    planes = torch.from_numpy(np.ascontiguousarray(shard)).permute(0, 3, 1, 2)
    return torch.cat([network(part.float() / 255) for part in torch.split(planes, BATCH)]).numpy()


@contextmanager
def _workers(jobs: int, ray: str) -> Iterator[tuple[joblib.Parallel, int]]:
    """Yield what runs tasks and how many at a time. A cluster that was started here ends with the block."""
    if not ray:
        with joblib.Parallel(jobs) as parallel:
            yield parallel, jobs
        return
    with ray_workers(ray, jobs, TrainingError) as count, joblib.Parallel() as parallel:
        yield parallel, count
