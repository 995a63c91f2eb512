"""Counters of the codec service."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import numpy as np

__all__ = ["Stats"]

_RECENT_S = 10.0
_MOST_RECENT = 10_000


class Stats:
    """Counters of a service, used by one thread.

    Attributes:
        requests: Messages received, by operation; ``unreadable`` for those that are not requests.
        errors: Refusals by code.
        dropped: Jobs of the PULL socket that found the queue full.
        undelivered: Answers that could not be sent.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.dropped = self.undelivered = 0
        self._started = time.monotonic()
        # Time of each answer, and seconds since its request.
        self._answers: dict[str, deque[tuple[float, float]]] = {}

    def answered(self, operation: str, arrived: float) -> None:
        """Count the answer to a request that arrived at the time ``arrived`` of the monotonic clock, in seconds."""
        now = time.monotonic()
        self._answers.setdefault(operation, deque(maxlen=_MOST_RECENT)).append((now, now - arrived))

    def snapshot(self, turned_away: int, **now: Any) -> dict[str, Any]:
        """Return ``now``, the counters, and the rate (1/s) and latency (ms) of the answers of the last 10 s."""
        time_now = time.monotonic()
        recent = {
            name: [took for at, took in answers if at >= time_now - _RECENT_S]
            for name, answers in self._answers.items()
        }
        uptime = time_now - self._started
        return {
            "uptime_s": round(uptime, 1),
            **now,
            "requests": dict(self.requests),
            "errors": dict(self.errors),
            "dropped": self.dropped,
            "undelivered": self.undelivered,
            "turned_away": turned_away,
            "recent": {name: _summary(times, min(_RECENT_S, uptime)) for name, times in recent.items() if times},
        }


def _summary(times: list[float], seconds: float) -> dict[str, float]:
    p50, p99 = np.percentile(times, (50, 99)) * 1000
    return {"per_s": round(len(times) / seconds, 1), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
