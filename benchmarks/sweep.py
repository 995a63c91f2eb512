"""The engine of sweeps: speed-up by a second process, and identical results after kills.

    python benchmarks/sweep.py [--parts processes kills] [--replicas 150] [--repeats 3] [--kills 100] [--out FILE]

Two processes against one: the same coded sweep without early stops, by turns, wall time of the whole command. Kills: a
sweep with early stops is started over and over in one folder, and killed by SIGKILL at a moment drawn evenly from the
time that it takes whole; when it ends before that its folder is compared with that of an uninterrupted run, and a new
one is begun. A part that is not asked for stays in the file as it was.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bench
import numpy as np
from rich.progress import track

CODED = """
snr_db: "0:2:0.5"
channels: {awgn: {model: awgn}, flat: {model: rayleigh-block}}
curves:
  QPSK 1/2: {chain: coded, modulation: qpsk, rate: 0.5}
  16-QAM 1/2: {chain: coded, modulation: 16qam, rate: 0.5, snr_db: "5:7:0.5"}
"""
STOPS = CODED + "stop: {replicas: 20, errors: 500}\n"
GOAL = 1.85
PARTS = ("processes", "kills")


def start(config: Path, folder: Path, jobs: int, *more: str) -> subprocess.Popen[bytes]:
    arguments = ["run", str(config), "--out", str(folder), "--jobs", str(jobs), "--no-report", *more]
    quiet = subprocess.DEVNULL
    # What Python says of processes whose parent was killed is as it should be here.
    return subprocess.Popen([sys.executable, "-m", "crlsc_phy.cli.sweep", *arguments], stdout=quiet, stderr=quiet)


def seconds(config: Path, folder: Path, jobs: int, *more: str) -> float:
    """Return the seconds of a whole run."""
    begun = time.perf_counter()
    if start(config, folder, jobs, *more).wait():
        raise SystemExit(f"{folder}: the run failed")
    return time.perf_counter() - begun


def found(folder: Path) -> list[str]:
    """Return the results of a run without their times."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    return sorted(json.dumps({name: row[name] for name in row if name not in ("cpu_s", "wall_s")}) for row in rows)


def compare_processes(work: Path, replicas: int, repeats: int) -> dict[str, Any]:
    config = work / "coded.yaml"
    config.write_text(CODED, encoding="utf-8")
    more = ("--replicas", str(replicas))
    # Once for what numba compiles and keeps.
    seconds(config, work / "first", 1, "--replicas", "1")
    rows = []
    for repeat in track(range(repeats), "one process and two"):
        one, two = (seconds(config, work / f"{jobs}-{repeat}", jobs, *more) for jobs in (1, 2))
        same = found(work / f"1-{repeat}") == found(work / f"2-{repeat}")
        rows.append({"one_s": round(one, 2), "two_s": round(two, 2), "ratio": round(one / two, 3), "identical": same})
    bench.show("Two processes against one", rows)
    ratio = statistics.median(row["ratio"] for row in rows)
    return {"replicas": replicas, "rows": rows, "median_ratio": ratio, "goal": GOAL}


def kill_often(work: Path, kills: int, seed: int) -> dict[str, Any]:
    config, rng = work / "stops.yaml", np.random.default_rng(seed)
    config.write_text(STOPS, encoding="utf-8")
    whole_s = seconds(config, work / "whole", 2)
    whole = found(work / "whole")
    done, compared, identical, torn, early = 0, 0, 0, 0, 0
    folder = work / "killed-0"
    for _ in track(range(kills), "kills"):
        while not kill_once(config, folder, rng.uniform(0, whole_s)):
            compared, identical = compared + 1, identical + (found(folder) == whole)
            folder = work / f"killed-{compared}"
        done += 1
        rows = folder / "results.jsonl"
        early += not rows.exists()
        torn += rows.exists() and not rows.read_bytes().endswith(b"\n") and rows.stat().st_size > 0
    seconds(config, folder, 2)
    compared, identical = compared + 1, identical + (found(folder) == whole)
    result = {
        "kills": done,
        "before_the_first_row": early,
        "torn_rows": torn,
        "whole_s": round(whole_s, 2),
        "rows": len(whole),
        "folders": compared,
        "identical": identical,
    }
    bench.show("Killed by SIGKILL at random moments", [result])
    return result


def kill_once(config: Path, folder: Path, after_s: float) -> bool:
    """Start a run and kill it after a while; return False if it ended before."""
    process = start(config, folder, 2)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
    code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"{folder}: the run failed")
    return code != 0


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    text = "what to measure; other parts stay as they were"
    benchmark.add("--parts", list(PARTS), text, nargs="+", choices=PARTS, type=str, metavar="PART")
    benchmark.add("--replicas", 150, "replicas of each of the 20 points of the coded sweep", quick=2)
    benchmark.add("--repeats", 3, "runs with one process and with two", quick=1)
    benchmark.add("--kills", 100, "runs that are killed", quick=1)
    options = benchmark.parse()
    content = benchmark.earlier()
    with TemporaryDirectory() as work:
        if "processes" in options.parts:
            content["processes"] = compare_processes(Path(work), options.replicas, options.repeats)
        if "kills" in options.parts:
            content["kills"] = kill_often(Path(work), options.kills, options.seed)
    benchmark.write(content)


if __name__ == "__main__":
    main()
