"""Engine of a sweep: hands out jobs, stops points that have enough results, and writes the rows.

The rows do not depend on the number of processes, on their speed or on kills: the results of a point are taken in the
order of its replicas, and results that were run beyond a stop are not written.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from crlsc_phy.errors import SweepError
from crlsc_phy.report.results import Point, Result
from crlsc_phy.sweep.config import KeepConfig
from crlsc_phy.sweep.plan import Job, Line, Plan
from crlsc_phy.sweep.store import open_store
from crlsc_phy.sweep.workers import Answer, open_workers

__all__ = ["Summary", "check_chains", "run_sweep", "seconds_a_job"]

_SHOWN_S = 0.2
"""Seconds between two updates of the progress, which take CPU time from the jobs."""


@dataclass
class Summary:
    """Summary of a run.

    Attributes:
        points: Number of points of the sweep.
        ran: Number of jobs that were run, including those that failed.
        known: Number of jobs with results from earlier runs.
        failed: Number of jobs that failed.
    """

    points: int
    ran: int = 0
    known: int = 0
    failed: int = 0

    @property
    def results(self) -> int:
        """Number of results in the folder."""
        return self.known + self.ran - self.failed


def check_chains(plan: Plan) -> None:
    """Make each chain once and discard it.

    Raises:
        SweepError: If a chain cannot work in its scene.
    """
    for line in plan.lines.values():
        line.make_chain()


def seconds_a_job(line: Line) -> float:
    """Measure the seconds that a replica takes in the middle of a line's SNRs, once everything is loaded."""
    chain = line.make_chain()
    middle = line.snr_db[len(line.snr_db) // 2]
    for replica in range(2):
        trial = line.job(middle, replica, KeepConfig()).trial
        start = time.perf_counter()
        chain.run(trial)
    return time.perf_counter() - start


def run_sweep(plan: Plan, folder: Path, jobs: int = 1, ray: str = "") -> Summary:
    """Run the jobs of a plan that have no result yet.

    Args:
        plan: The plan, which the caller has passed to :func:`check_chains`.
        folder: Folder for the results; see :mod:`crlsc_phy.sweep.store`.
        jobs: Number of processes on this machine; 0 runs the jobs in the calling process, where a job that is killed
            ends the run. On a Ray cluster the number of tasks at a time, where 0 and 1 stand for one per CPU.
        ray: Address of a Ray cluster, ``local`` to start one here, or empty for none.

    Raises:
        SweepError: If the folder cannot be used, or the cluster cannot be reached.
    """
    if jobs < 0:
        raise SweepError(f"jobs is {jobs}; it must be 0 or more")
    with open_store(folder, plan) as store:
        points = {
            (line.id, snr_db): _Replicas(plan, line, snr_db, store.known)
            for line in plan.lines.values()
            for snr_db in line.snr_db
        }
        summary = Summary(len(points), known=sum(point.known for point in points.values()))
        if all(point.done for point in points.values()):
            return summary
        with open_workers(plan.lines, jobs, ray) as workers, _Watch(points) as watch:
            for job, answer in workers.run(job for point in points.values() for job in point.jobs()):
                for row, picture in points[job.line, job.snr_db].accept(job, answer):
                    store.append(row, picture)
                    summary.failed += "error" in row
                    summary.ran += 1
                watch.update()
    return summary


class _Replicas:
    """The replicas of a point: those to run, and those that count.

    Attributes:
        taken: Number of replicas that count so far.
        done: True if the point has enough results.
    """

    def __init__(self, plan: Plan, line: Line, snr_db: float, known: Mapping[str, Result]) -> None:
        self._line = line
        self._all = [line.job(snr_db, replica, plan.config.keep) for replica in range(line.stop.replicas)]
        self._known = {job.replica: known[job.key] for job in self._all if job.key in known}
        # A stop within a round would leave out some of the pictures.
        self._round = max(len(line.scene.images), 1)
        self._arrived: dict[int, Answer] = {}
        self._results: list[Result] = []
        self._counts: Counter[str] = Counter()
        self.taken = 0
        self._enough = False
        self._advance()

    @property
    def done(self) -> bool:
        return self._enough or self.taken == len(self._all)

    @property
    def known(self) -> int:
        """Number of replicas with results from earlier runs."""
        return len(self._known)

    @property
    def open(self) -> int:
        """Largest number of replicas still to run."""
        return 0 if self.done else sum(job.replica not in self._known for job in self._all[self.taken :])

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs to run until the point has enough results."""
        for job in self._all:
            if self._enough:
                return
            if job.replica >= self.taken and job.replica not in self._known:
                yield job

    def accept(self, job: Job, answer: Answer) -> list[Answer]:
        """Take an answer, and return the answers to write now."""
        self._arrived[job.replica] = answer
        return self._advance()

    def _advance(self) -> list[Answer]:
        """Count the replicas that follow those counted so far, until one is missing or there is enough."""
        fresh = []
        while not self.done:
            if self.taken in self._known:
                self._count(self._known[self.taken])
            elif self.taken in self._arrived:
                answer = self._arrived.pop(self.taken)
                fresh.append(answer)
                if "error" not in answer[0]:
                    self._count(Result(**answer[0]))
            else:
                break
            self.taken += 1
            self._enough = self.taken % self._round == 0 and self._is_enough()
        return fresh

    def _count(self, result: Result) -> None:
        self._results.append(result)
        self._counts.update(result.counts)

    def _is_enough(self) -> bool:
        stop = self._line.stop
        if stop.errors:
            errors = self._counts["block_errors"] if self._counts["blocks"] else self._counts["frames_lost"]
            if errors >= stop.errors:
                return True
        if stop.half_width:
            found = Point(tuple(self._results)).estimate(self._line.measure)
            # False for NaN, which stands for too few results.
            return found.high - found.low <= 2 * stop.half_width
        return False


class _Watch:
    """Progress of a run on a terminal: points, jobs, rate and time left."""

    def __init__(self, points: Mapping[Any, _Replicas]) -> None:
        self._points = points
        # On stderr, since stdout may be JSON.
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[points]} of {task.fields[all]} points"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} jobs, {task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._answers, self._shown = 0, 0.0
        self._task = self._progress.add_task("", points=0, all=len(points), rate="", total=self._open)

    @property
    def _open(self) -> int:
        return sum(point.open for point in self._points.values())

    def __enter__(self) -> _Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self) -> None:
        """Count an answer."""
        self._answers += 1
        now = time.monotonic()
        if self._progress.disable or now - self._shown < _SHOWN_S:
            return
        self._shown = now
        task = self._progress.tasks[0]
        rate = f"{task.speed:.2g} jobs/s" if task.speed else ""
        done = sum(point.done for point in self._points.values())
        # The total shrinks with each point that stops early.
        self._progress.update(
            self._task, completed=self._answers, total=self._answers + self._open, points=done, rate=rate
        )
