"""Runs a sweep: hands out jobs, decides when a point has seen enough, and writes what was found.

What is written does not depend on how many processes there are, on which is faster, or on kills: the results of a
point are taken in the order of its replicas, and what was run ahead of a stop is not written.
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
"""Time between two looks at how far a run has come, which cost what jobs could use."""


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        points: That the sweep has.
        ran: Jobs that were run, with those that failed.
        known: Jobs whose results were there before.
        failed: Jobs that failed.
    """

    points: int
    ran: int = 0
    known: int = 0
    failed: int = 0

    @property
    def results(self) -> int:
        """How many there are now."""
        return self.known + self.ran - self.failed


def check_chains(plan: Plan) -> None:
    """Make each chain once, and let it go.

    Raises:
        SweepError: If one cannot work in its scene.
    """
    for line in plan.lines.values():
        line.make_chain()


def seconds_a_job(line: Line) -> float:
    """How long a replica takes in the middle of a line's SNRs, in seconds, once everything is loaded."""
    chain = line.make_chain()
    middle = line.snr_db[len(line.snr_db) // 2]
    for replica in range(2):
        trial = line.job(middle, replica, KeepConfig()).trial
        start = time.perf_counter()
        chain.run(trial)
    return time.perf_counter() - start


def run_sweep(plan: Plan, folder: Path, jobs: int = 1, ray: str = "") -> Summary:
    """Run what is not there yet.

    Args:
        plan: What there is to run; the caller has let :func:`check_chains` look at it.
        folder: For the results; see :mod:`crlsc_phy.sweep.store`.
        jobs: Processes on this machine; on a Ray cluster tasks at a time, where 1 stands for as many as it has CPUs.
        ray: Address of a Ray cluster, ``local`` to start one here; empty for none.

    Raises:
        SweepError: If the folder cannot be used, or no cluster be reached.
    """
    if jobs < 1:
        raise SweepError(f"--jobs {jobs}: must be 1 or more")
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
    """The replicas of a point: which are to be run, and which count.

    Attributes:
        taken: How many count so far.
        done: Whether it has seen enough.
    """

    def __init__(self, plan: Plan, line: Line, snr_db: float, known: Mapping[str, Result]) -> None:
        self._line, self._snr_db = line, snr_db
        self._all = [line.job(snr_db, replica, plan.config.keep) for replica in range(line.stop.replicas)]
        self._known = {job.replica: known[job.key] for job in self._all if job.key in known}
        # To stop within a round would leave out some of the pictures.
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
        """How many were there before."""
        return len(self._known)

    @property
    def open(self) -> int:
        """How many are to be run yet, at most."""
        return 0 if self.done else sum(job.replica not in self._known for job in self._all[self.taken :])

    def jobs(self) -> Iterator[Job]:
        """Those to be run, as long as there is not enough."""
        for job in self._all:
            if self._enough:
                return
            if job.replica >= self.taken and job.replica not in self._known:
                yield job

    def accept(self, job: Job, answer: Answer) -> list[Answer]:
        """Take an answer; returns those to be written now."""
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
            found = Point(self._snr_db, tuple(self._results)).estimate(self._line.measure)
            # Not so with NaN, which stands for too few results.
            return found.high - found.low <= 2 * stop.half_width
        return False


class _Watch:
    """Shows on a terminal how far a run has come, how fast it goes and how long it takes yet."""

    def __init__(self, points: Mapping[Any, _Replicas]) -> None:
        self._points = points
        # On stderr, as results on stdout may be JSON.
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
        # Points that stop early leave less to do than was thought.
        self._progress.update(
            self._task, completed=self._answers, total=self._answers + self._open, points=done, rate=rate
        )
