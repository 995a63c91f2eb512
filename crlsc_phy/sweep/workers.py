"""Workers of a sweep: processes of one thread each on this machine, a Ray cluster, or the calling process.

A process that is killed breaks its pool, and the pool does not tell which job did it. All jobs that were under way are
then run again, one at a time: a job whose process is killed again is recorded as failed. This is why even one job at a
time has a process of its own: a job that runs out of memory must not end the run. In the calling process (``jobs=0``)
it does; this is for debuggers, profilers and tests, and starts a few seconds faster.
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
from contextlib import ExitStack, contextmanager, nullcontext, suppress
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
"""The row of a job, and the picture to keep with it, uint8 [H, W, 3]."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_AHEAD = 2
"""Jobs that are handed out for each process, so that no process has to wait."""
_CHAINS_KEPT = 4
_KILLED = "its process was killed twice, perhaps for lack of memory; run again with fewer --jobs"

_chains: dict[str, Chain] = {}
_warm: set[tuple[ChainKind, str]] = set()
_lines: Mapping[str, Line] = {}


class Workers(Protocol):
    """Runs jobs."""

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """Run jobs and yield each with its answer, in the order in which they end.

        The next of ``jobs`` is taken only when it can start.
        """


def run_job(job: Job, line: Line) -> Answer:
    """Run a job, and once more with a new chain if it fails; the row of a job that fails twice has the error."""
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
    """Return the chain of a line. Jobs come line by line, so only a few chains are kept."""
    if line.id not in _chains:
        while len(_chains) >= _CHAINS_KEPT:
            del _chains[next(iter(_chains))]
        if (warm := (line.kind, line.scene.air)) not in _warm:
            # Libraries compile and load at their first use; the time of a job shall not include that.
            line.make_chain().run(trial)
            _warm.add(warm)
        _chains[line.id] = line.make_chain()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
    return _chains[line.id]


@contextmanager
def open_workers(lines: Mapping[str, Line], jobs: int = 1, ray: str = "") -> Iterator[Workers]:
    """Start workers, and stop them when the context ends.

    Args:
        lines: Lines whose jobs are to be run, by id.
        jobs: Number of processes on this machine; 0 runs the jobs in the calling process. On a Ray cluster the number
            of tasks at a time, where 0 and 1 stand for one per CPU.
        ray: Address of a Ray cluster, ``local`` to start one here, or empty for none.

    Raises:
        SweepError: If Ray or joblib is not installed, or the cluster cannot be reached.
    """
    if not ray:
        with _Processes(lines, jobs) if jobs else nullcontext(_Here(lines)) as workers:
            yield workers
        return
    try:
        from crlsc_phy.cluster import ray_workers
    except ModuleNotFoundError as error:
        raise SweepError(
            f"{error.name} is not installed; pip install 'crlsc-phy[sweep,ray]', or leave out --ray"
        ) from None
    with ray_workers(ray, jobs, SweepError) as count, _Cluster(lines, count) as cluster:
        yield cluster


class _Here:
    """The calling process, which runs one job after the other."""

    def __init__(self, lines: Mapping[str, Line]) -> None:
        self._lines = lines

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        return ((job, run_job(job, self._lines[job.line])) for job in jobs)


class _Processes:
    """A pool of processes on this machine."""

    def __init__(self, lines: Mapping[str, Line], count: int) -> None:
        self._lines, self._count = lines, count

    def __enter__(self) -> _Processes:
        # Libraries read these variables when they are imported, so they must be set before a process starts.
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
        # New interpreters: threads that libraries have started here would be missing in a fork.
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
    """Prepare a process for jobs."""
    global _lines
    _lines = lines
    # Ctrl-C goes to all processes; the first one decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(heart,), daemon=True).start()


def _end_with(heart: Connection) -> None:
    """End this process when the other end is closed, also because the process that held it was killed."""
    with suppress(EOFError, OSError):
        heart.recv()
    os._exit(1)


def _run_known(job: Job) -> Answer:
    return run_job(job, _lines[job.line])


class _Cluster:
    """joblib on Ray, which returns nothing before a whole round is done."""

    _ROUND = 4
    """Jobs per task in a round. The longer a round, the smaller the share of time spent waiting for its last job."""

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

        # Each job brings its line, as joblib has no initialiser for the cluster's processes.
        found: list[Answer] = self._parallel(delayed(run_job)(job, self._lines[job.line]) for job in jobs)
        return found

    def _alone(self, job: Job) -> Answer:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._answers([job])[0]
        except RayTaskError as error:
            # An error of the job itself would have made a row: something is missing on the cluster.
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
