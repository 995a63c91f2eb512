"""Ending processes that the toolkit started."""

from __future__ import annotations

import subprocess

__all__ = ["end_process"]


def end_process(process: subprocess.Popen[str], patience_s: float) -> None:
    """Ask a process to end, and kill it if it has not within ``patience_s`` seconds; it has ended on return."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
