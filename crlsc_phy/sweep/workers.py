"""Who runs the jobs of a sweep: processes of one thread on this machine, or a Ray cluster.

A process that is killed takes its pool with it, and nobody says which job did it. So all jobs that were under way are
run again, one at a time: the one whose process is killed again is the culprit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from math import isfinite
from multiprocessing.connection import Connection
from typing import Any, Protocol

from crlsc_phy.errors import SweepError, brief
from crlsc_phy.images import UInt8Image
from crlsc_phy.link.chain import Chain, ChainKind, Trial
from crlsc_phy.sweep.plan import Job, Line

__all__ = ["Answer", "Workers", "open_workers", "run_job"]

Answer = tuple[dict[str, Any], UInt8Image | None]
"""The row of a job, and the picture to keep with it."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_AHEAD = 2
"""Jobs for each process that are handed out at a time, so that none has to wait."""
_CHAINS_KEPT = 4
_KILLED = "its process was killed twice, for want of memory perhaps; run again with fewer --jobs"

_chains: dict[str, Chain] = {}
_warm: set[tuple[ChainKind, str]] = set()
_lines: Mapping[str, Line] = {}


class Workers(Protocol):
    """Runs jobs."""

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """Run jobs, and yield each with its answer as they end. ``jobs`` is asked for more only when one can start."""


def run_job(job: Job, line: Line) -> Answer:
    """Run a job; if that fails a second time with a new chain, the row says why."""
    try:
        return _attempt(job, line)
    except Exception:
        _chains.pop(line.id, None)
    try:
        return _attempt(job, line)
    except Exception as error:
        return _failure(job, line, f"{type(error).__name__}: {brief(error)}")


def _attempt(job: Job, line: Line) -> Answer:
    chain = _chain(line, job.trial)
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = chain.run(job.trial)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    image = outcome.image
    row = _head(job, line) | {
        "counts": {name: int(count) for name, count in outcome.counts.items()},
        "image": image.name if image else None,
        # JSON knows neither NaN nor infinity.
        "metrics": {name: float(value) for name, value in image.metrics.items() if isfinite(value)} if image else {},
        "cpu_s": round(cpu, 6),
        "wall_s": round(wall, 6),
    }
    return row, image.picture if image and job.keep else None


def _failure(job: Job, line: Line, error: str) -> Answer:
    return _head(job, line) | {"error": error}, None


def _head(job: Job, line: Line) -> dict[str, Any]:
    return {
        "job": job.key,
        "line": line.id,
        "curve": line.curve,
        "channel": line.channel,
        "snr_db": job.snr_db,
        "replica": job.replica,
    }


def _chain(line: Line, trial: Trial) -> Chain:
    """The chain of a line, made once; jobs come line by line, so that a few are enough to keep."""
    if line.id not in _chains:
        while len(_chains) >= _CHAINS_KEPT:
            del _chains[next(iter(_chains))]
        if (warm := (line.kind, line.scene.air)) not in _warm:
            # What libraries compile and load at their first use is no time of a job.
            line.make_chain().run(trial)
            _warm.add(warm)
        _chains[line.id] = line.make_chain()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
    return _chains[line.id]


@contextmanager
def open_workers(lines: Mapping[str, Line], jobs: int = 1, ray: str = "") -> Iterator[Workers]:
    """Workers for the jobs of some lines.

    Args:
        lines: By id.
        jobs: Processes on this machine; on a Ray cluster tasks at a time, where 1 stands for as many as it has CPUs.
        ray: Address of a Ray cluster, ``local`` to start one here; empty for none.

    Raises:
        SweepError: If Ray or joblib is not installed, or the cluster not reached.
    """
    if not ray:
        with _Processes(lines, jobs) as processes:
            yield processes
        return
    try:
        from crlsc_phy.cluster import ray_workers
    except ModuleNotFoundError as error:
        raise SweepError(
            f"{error.name} is not installed; pip install 'crlsc-phy[sweep,ray]', or leave out --ray"
        ) from None
    with ray_workers(ray, jobs, SweepError) as count, _Cluster(lines, count) as cluster:
        yield cluster


class _Processes:
    """A pool of processes on this machine; even a single job at a time has one, so that it may be killed."""

    def __init__(self, lines: Mapping[str, Line], count: int) -> None:
        self._lines, self._count = lines, count

    def __enter__(self) -> _Processes:
        # Libraries read these when they are imported: they must be there before a process starts.
        self._before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(now=kind is not None)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        source = iter(jobs)
        under_way: dict[Future[Answer], Job] = {}
        while True:
            for job in islice(source, _AHEAD * self._count - len(under_way)):
                under_way[self._submit(job)] = job
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                job = under_way.pop(future)
                try:
                    answer = future.result()
                except BrokenProcessPool:
                    lost.append(job)
                else:
                    yield job, answer
            if lost:
                lost += under_way.values()
                under_way.clear()
                self._restart()
                for job in lost:
                    yield job, self._alone(job)

    def _submit(self, job: Job) -> Future[Answer]:
        try:
            return self._pool.submit(_run_known, job)
        except BrokenProcessPool as error:
            future: Future[Answer] = Future()
            future.set_exception(error)
            return future

    def _alone(self, job: Job) -> Answer:
        try:
            return self._submit(job).result()
        except BrokenProcessPool:
            self._restart()
            return _failure(job, self._lines[job.line], _KILLED)

    def _start(self) -> None:
        # A new interpreter each: threads that libraries have started here would not live on in a fork.
        context = multiprocessing.get_context("spawn")
        heart, self._heart = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self._count, context, _begin, (heart, self._lines))

    def _stop(self, now: bool) -> None:
        if now:
            self._heart.close()
        self._pool.shutdown(cancel_futures=True)
        self._heart.close()

    def _restart(self) -> None:
        self._stop(now=True)
        self._start()


def _begin(heart: Connection, lines: Mapping[str, Line]) -> None:
    """Make a process ready for jobs."""
    global _lines
    _lines = lines
    # The keyboard's interrupt goes to all processes; the first one decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(heart,), daemon=True).start()


def _end_with(heart: Connection) -> None:
    """End this process when the other end is closed, if only because who held it was killed."""
    with suppress(EOFError, OSError):
        heart.recv()
    os._exit(1)


def _run_known(job: Job) -> Answer:
    return run_job(job, _lines[job.line])


class _Cluster:
    """joblib on Ray, which gives nothing back before a whole round is done."""

    _ROUND = 4
    """Jobs a task at a time in a round: the longer, the less it matters that all wait for the last."""

    def __init__(self, lines: Mapping[str, Line], count: int) -> None:
        self._lines, self._count = lines, count
        self._stack = ExitStack()

    def __enter__(self) -> _Cluster:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        from ray.exceptions import RayError

        source = iter(jobs)
        while part := list(islice(source, self._ROUND * self._count)):
            try:
                answers = self._answers(part)
            except RayError:
                self._restart()
                answers = [self._alone(job) for job in part]
            yield from zip(part, answers, strict=True)

    def _answers(self, jobs: list[Job]) -> list[Answer]:
        from joblib import delayed

        # Each job brings its line along: actors have no beginning of their own here.
        found: list[Answer] = self._parallel(delayed(run_job)(job, self._lines[job.line]) for job in jobs)
        return found

    def _alone(self, job: Job) -> Answer:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._answers([job])[0]
        except RayTaskError as error:
            # Not the job's own fault, which would have made a row: something is missing there.
            reason = f"cannot be run on the cluster: {str(error).strip().splitlines()[-1]}"
        except RayError:
            reason = _KILLED
        self._restart()
        return _failure(job, self._lines[job.line], reason)

    def _start(self) -> None:
        from joblib import Parallel

        self._parallel = self._stack.enter_context(Parallel())

    def _restart(self) -> None:
        self._stack.close()
        self._start()
