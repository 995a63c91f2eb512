"""Ray clusters as a backend of joblib."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib

from crlsc_phy.errors import CrlscError, brief

__all__ = ["ray_workers"]


@contextmanager
def ray_workers(address: str, jobs: int, error: type[CrlscError]) -> Iterator[int]:
    """Run ``joblib.Parallel`` within the block on a Ray cluster; a cluster that was started here ends with the block.

    Args:
        address: ``HOST:PORT`` of a cluster, or ``local`` to start one here.
        jobs: Number of tasks at a time; 1 stands for the cluster's number of CPUs.
        error: Exception to raise if Ray is not installed or the cluster does not answer.

    Yields:
        Number of tasks at a time.
    """
    try:
        import ray as cluster
        from ray.util.joblib import register_ray
    except ImportError:
        raise error("ray is not installed; pip install 'crlsc-phy[ray]', or leave out --ray") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            cluster.init(include_dashboard=False, num_cpus=jobs if jobs > 1 else None, **quiet)
        else:
            _knock(address)
            cluster.init(address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError) as problem:
        raise error(f"--ray {address}: no cluster answers there ({brief(problem)})") from None
    try:
        register_ray()
        count = jobs if jobs > 1 else int(cluster.cluster_resources()["CPU"])
        with joblib.parallel_config("ray", n_jobs=count):
            yield count
    finally:
        cluster.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at ``HOST:PORT``; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=5).close()
