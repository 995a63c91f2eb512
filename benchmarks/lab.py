"""What the modem's benchmarks share: frames, noise, simulated radio faults, intervals, workers and tables."""

from __future__ import annotations

import os

# Before numpy is imported: a worker is a process of one thread.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import Numerology
from crlsc_phy.quality.intervals import wilson as wilson

T = TypeVar("T")
Samples = NDArray[np.complex64]


def make_frame(rng: np.random.Generator, detail_bytes: int = 288) -> SemanticFrame:
    """A frame with random bytes; by default as of the default bundle at 64 x 64: 16 B of air code, 288 B of detail."""
    header = FrameHeader(rng.bytes(4), 64, 64, 16, detail_bytes, sequence=int(rng.integers(65536)))
    return SemanticFrame(header, rng.bytes(16), rng.bytes(detail_bytes))


def make_analog_frame(rng: np.random.Generator, count: int) -> SemanticFrame:
    """A frame with ``count`` random complex symbols as its detail."""
    symbols = complex_noise(rng, count, 1.0)
    header = FrameHeader(rng.bytes(4), 64, 64, 16, symbols.nbytes, mode=Mode.ANALOG)
    return SemanticFrame(header, rng.bytes(16), symbols.astype(SYMBOL).tobytes())


def rayleigh(rng: np.random.Generator, count: int, doppler: float, paths: int = 32) -> NDArray[np.complex128]:
    """Gain of a flat Rayleigh fading path with Clarke's spectrum, mean power 1, complex128 [count].

    Args:
        rng: Draws angles and phases.
        count: Samples.
        doppler: Largest Doppler shift in cycles/sample, at most 1e-3.
        paths: Plane waves that add up.
    """
    angles, phases = rng.uniform(0, 2 * np.pi, (2, paths, 1))
    # Exact on a grid, linear in between: the error is 60 dB below the gain at 1e-3.
    grid = np.arange(0, count + 32, 32)
    gain = np.exp(1j * (2 * np.pi * doppler * np.cos(angles) * grid + phases)).sum(axis=0) / np.sqrt(paths)
    at = np.arange(count)
    return np.asarray(np.interp(at, grid, gain.real) + 1j * np.interp(at, grid, gain.imag))


def fade(rng: np.random.Generator, samples: Samples, powers: tuple[float, ...], doppler: float) -> Samples:
    """``samples`` over independent Rayleigh paths a sample apart, their mean powers scaled to add up to 1."""
    total = np.zeros(len(samples), np.complex128)
    for delay, power in enumerate(np.asarray(powers) / sum(powers)):
        total[delay:] += np.sqrt(power) * rayleigh(rng, len(samples), doppler)[delay:] * samples[: len(samples) - delay]
    return total.astype(np.complex64)


def clock_error(samples: Samples, ppm: float) -> Samples:
    """``samples`` read with a clock that is off by ``ppm``: windowed sinc interpolation over 32 samples."""
    reach = 16
    padded = np.pad(samples, reach)
    out = np.empty(int(len(samples) / (1 + abs(ppm) * 1e-6)), np.complex64)
    offsets = np.arange(-reach + 1, reach + 1)
    for start in range(0, len(out), 1 << 16):
        times = np.arange(start, min(start + (1 << 16), len(out))) * (1 + ppm * 1e-6)
        whole = np.floor(times).astype(np.int64)
        distance = (times - whole)[:, None] - offsets
        weights = np.sinc(distance) * np.cos(np.pi * distance / (2 * reach)) ** 2
        out[start : start + len(times)] = np.sum(padded[reach + whole[:, None] + offsets] * weights, axis=1)
    return out


def complex_noise(rng: np.random.Generator, count: int, variance: float) -> Samples:
    """Circular Gaussian noise, complex64 [count]."""
    parts = rng.standard_normal((count, 2), np.float32) * np.float32(np.sqrt(variance / 2))
    return parts.view(np.complex64).ravel()


def noise_variance(numerology: Numerology, snr_db: float) -> float:
    """Variance of the noise on a sample for an Es/N0 on each occupied carrier and a burst of unit mean power."""
    return float(10 ** (-snr_db / 10) * numerology.fft_size / numerology.occupied)


def turn(samples: NDArray[Any], cfo: float, phase: float = 0.0) -> Samples:
    """``samples`` with a carrier frequency offset [cycles/sample] and a phase [rad]."""
    return np.asarray(samples * np.exp(1j * (2 * np.pi * cfo * np.arange(len(samples)) + phase)), np.complex64)


def timed(call: Callable[..., T], *args: object) -> tuple[T, float]:
    """What a call returns, and its CPU-seconds."""
    start = time.process_time()
    answer = call(*args)
    return answer, time.process_time() - start


def in_processes(work: Callable[[Any], T], jobs: Iterable[Any], label: str, processes: int = 2) -> list[T]:
    """``work`` on each job, in the order of ``jobs``; spawned processes, for faiss and torch do not survive a fork."""
    jobs = list(jobs)
    if processes == 1:
        return [work(job) for job in track(jobs, description=label)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(track(pool.map(work, jobs), description=label, total=len(jobs)))


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, without their intervals."""
    table = Table(title=title)
    names = [name for name in rows[0] if not name.endswith("_95")]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            *(f"{value:.4g}" if isinstance(value := row[name], (int, float)) else str(value) for name in names)
        )
    Console().print(table)
