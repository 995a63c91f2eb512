"""Arguments, workers, tables and result files of the benchmarks."""

from __future__ import annotations

import os

# Before numpy is imported: every process computes on one thread.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import datetime
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crlsc_phy.figure import drawing
from crlsc_phy.files import write_text
from crlsc_phy.machine import processor

T = TypeVar("T")
Row = dict[str, Any]

PACKAGES = ("crlsc-phy", "numpy", "numba", "torch", "sionna-no-rt", "onnxruntime", "faiss-cpu")


class Benchmark:
    """A command that measures something and writes what it found to a JSON file.

    Its arguments are ``--quick``, ``--out``, ``--seed`` and ``--jobs`` where they apply, and those of :meth:`add`.
    A quick run shows that everything works; by default its results go below ``out``, not to the published ones.

    Args:
        file: Path of the script.
        text: Docstring of the script, shown by ``--help``.
        seed: Default of ``--seed``; None if nothing is random.
        jobs: Default of ``--jobs``, which :meth:`run` uses; None if there is one process.
        out: Default of ``--out``; ``benchmarks/results/NAME.json`` if it is None.
        quick: Whether there is a quick run.

    Attributes:
        options: The arguments, after :meth:`parse`.
    """

    def __init__(
        self,
        file: str,
        text: str | None,
        *,
        seed: int | None = 1,
        jobs: int | None = None,
        out: Path | None = None,
        quick: bool = True,
    ) -> None:
        self.options = argparse.Namespace(quick=False)
        self._parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._quick: dict[str, Any] = {}
        if quick:
            self._parser.add_argument("--quick", action="store_true", help="a small run that shows that all works")
        out = out or Path("benchmarks/results") / f"{Path(file).stem}.json"
        self.add("--out", out, "where the results go", quick=Path("out", *out.parts[1:]))
        if seed is not None:
            self.add("--seed", seed, "seed of everything that is drawn")
        if jobs is not None:
            self.add("--jobs", jobs, "processes, each on one thread", "--processes", type=count)

    def add(self, flag: str, default: Any, text: str, *aliases: str, quick: Any = None, **more: Any) -> None:
        """Add an argument.

        Args:
            flag: Its name, such as ``--bursts``.
            default: Its value if it is not given; its type is that of the argument.
            text: Its help.
            aliases: Other names.
            quick: Its value in a quick run if it is not given.
            more: Further arguments of ``argparse.ArgumentParser.add_argument``.
        """
        options = {"type": type(default)} | more
        action = self._parser.add_argument(flag, *aliases, default=default, help=f"{text} (%(default)s)", **options)
        if quick is not None:
            self._quick[action.dest] = quick

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Read the command line, or ``arguments``."""
        self._parser.parse_args(arguments, self.options)
        if self.options.quick:
            self._parser.set_defaults(**self._quick)
            self.options = self._parser.parse_args(arguments)
        return self.options

    def few(self, values: Sequence[T], count: int = 2) -> list[T]:
        """Return all values; in a quick run ``count`` of them, evenly spread from the first to the last."""
        if not self.options.quick or len(values) <= count:
            return list(values)
        return [values[place] for place in np.linspace(0, len(values) - 1, count).round().astype(int)]

    def run(self, work: Callable[[Any], T], jobs: Iterable[Any], label: str) -> list[T]:
        """Call ``work`` on each job in ``--jobs`` processes, and return the answers in the order of the jobs."""
        tasks = list(jobs)
        # Spawned, for faiss and torch do not survive a fork. Not joblib, which copies the functions of a script to its
        # workers with all that they refer to: caches and the functions of SciPy cannot be copied.
        with ProcessPoolExecutor(self.options.jobs, mp_context=get_context("spawn")) as pool:
            return list(track(pool.map(work, tasks), description=label, total=len(tasks)))

    def write(self, content: Row) -> None:
        """Write the result file: command, machine and seed, then ``content``."""
        told: Row = {
            "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
            "machine": machine(),
        }
        told |= {name: vars(self.options)[name] for name in ("seed", "quick") if name in self.options}
        path: Path = self.options.out
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(told | content, indent=2) + "\n")
        print(f"wrote {path}")

    def earlier(self) -> Row:
        """Return what the result file holds already, without what :meth:`write` puts before it."""
        path: Path = self.options.out
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {name: value for name, value in content.items() if name not in ("command", "machine", "seed", "quick")}

    def figure(self, width: int, height: int) -> AbstractContextManager[Figure]:
        """Draw the figure beside the result file, see :func:`crlsc_phy.figure.drawing`."""
        return drawing(self.options.out.with_suffix(".png"), width, height)


def count(text: str) -> int:
    """Parse a whole number from one on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def machine() -> Row:
    """Return the processor, its cores, the date, and the versions that figures depend on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def show(title: str, rows: Sequence[Row], hide: Sequence[str] = ()) -> None:
    """Print rows as a table.

    Args:
        title: Its title.
        rows: Cells by column. Of a list the first value is shown; dictionaries and intervals are left out.
        hide: Further columns to leave out.
    """
    table = Table(title=title)
    names = [
        name
        for name, value in {name: value for row in reversed(rows) for name, value in row.items()}.items()
        if not (name.endswith("_95") or name in hide or isinstance(value, dict))
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        value = value[0]
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def error_bars(values: ArrayLike, intervals: ArrayLike, floor: float = 0.0) -> NDArray[np.float64]:
    """Return how far intervals [N, 2] reach below and above values [N], float64 [2, N]; none is below ``floor``."""
    return np.abs(np.maximum(np.transpose(intervals), floor) - np.maximum(values, floor))


def timed(call: Callable[..., T], *args: object) -> tuple[T, float]:
    """Return the result of a call and its CPU-seconds."""
    start = time.process_time()
    answer = call(*args)
    return answer, time.process_time() - start


@contextmanager
def served(module: str, *arguments: str) -> Iterator[Row]:
    """Run a command of the package in a process of its own, and yield the first line of JSON that it prints."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
