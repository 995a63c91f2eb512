"""Events of a run, inserted among the frames received over a radio."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["radio_events"]

EARLY = 64
"""Most frames remembered until their burst event comes; a sender has fewer under way."""


class radio_events(Block):  # noqa: N801
    """Pass received frames on with the events that cannot cross a radio.

    A simulated channel carries events as stream tags; a radio does not. If the sender is in the same flowgraph, its
    events come to the port ``events``. Each waits for its frame, for a later frame, or for ``idle`` seconds without
    any. If there is no sender, an end event follows the frame number ``most``, or ``idle`` seconds without a frame.

    Args:
        idle: Seconds without a frame after which the awaited frames are lost; 0 for never.
        most: Frames after which a run without a sender ends; 0 for no limit.
        sender: True if the events of a sender come to ``events``; its end event then ends the run.
    """

    COUNTERS = ("frames", "lost", "errors")

    def __init__(self, idle: float = 20.0, most: int = 0, sender: bool = False) -> None:
        super().__init__("CRLSC Radio Events", {"frames": "on_frame", "events": "on_event"}, ("frames",))
        self._idle, self._most, self._sender = idle, most, sender
        self._moved = threading.Condition()
        self._clear()

    def _clear(self) -> None:
        self.frames = self.lost = 0
        self._waiting: deque[tuple[int | None, Any]] = deque()
        self._early: deque[int] = deque(maxlen=EARLY)
        self._ended = False
        self._due = time.monotonic() + self._idle

    def begin(self) -> None:
        """Begin a run."""
        self._clear()
        if self._idle > 0:
            self.start_thread(self._watch)

    def end(self) -> None:
        """End a run."""
        with self._moved:
            self._ended = True
            self._moved.notify_all()

    def on_frame(self, message: Any) -> None:
        """Pass a received frame on, and behind it the event of its burst."""
        sequence = pdu.sequence_of(message)
        if sequence is None:
            self.fail("message is not a frame; connect the frames port of the burst receiver")
            return
        with self._moved:
            if self._ended:
                return
            self.frames += 1
            self._due = time.monotonic() + self._idle
            known = sequence in (waiting for waiting, _ in self._waiting)
            while known and self._waiting[0][0] != sequence:
                self._give_up_first()
            self.publish("frames", message)
            if known:
                self.publish("frames", self._waiting.popleft()[1])
            else:
                self._early.append(sequence)
            self._pass_others()
            if self._most and self.frames >= self._most and not self._sender:
                self._send_end()

    def on_event(self, message: Any) -> None:
        """Keep an event of the sender until its turn."""
        event = pdu.read_event(message)
        if event is None:
            self.fail("message is not an event; connect the feedback port of the burst modulator")
            return
        with self._moved:
            if self._ended:
                return
            self._due = time.monotonic() + self._idle
            sequence = pdu.sequence_of(message) if event["event"] == "burst" else None
            if sequence is not None and sequence in self._early:
                self._early.remove(sequence)
                while self._waiting:
                    self._give_up_first()
                sequence = None
            self._waiting.append((sequence, message))
            self._pass_others()

    def _watch(self) -> None:
        with self._moved:
            while not self._ended:
                rest = self._due - time.monotonic()
                if rest > 0:
                    self._moved.wait(rest)
                    continue
                self._due = time.monotonic() + self._idle
                self.attempt(self._give_up)

    def _give_up(self) -> None:
        while self._waiting:
            self._give_up_first()
        if not self._sender:
            self._send_end()

    def _give_up_first(self) -> None:
        sequence, message = self._waiting.popleft()
        self.lost += sequence is not None
        self.publish("frames", message)

    def _pass_others(self) -> None:
        """Pass on the events at the head that wait for no frame."""
        while self._waiting and self._waiting[0][0] is None:
            self.publish("frames", self._waiting.popleft()[1])

    def _send_end(self) -> None:
        self._ended = True
        self.publish("frames", pdu.end_event())
