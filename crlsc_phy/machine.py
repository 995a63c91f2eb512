"""The machine: what a figure was measured on, and ending its processes."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

__all__ = ["end_process", "processor"]


def processor() -> str:
    """Name of the processor; its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def end_process(process: subprocess.Popen[str], patience_s: float) -> None:
    """Ask a process to end, and kill it if it does not within ``patience_s`` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
