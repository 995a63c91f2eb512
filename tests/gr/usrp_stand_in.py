"""Stand-ins for UHD's sink and source, which need hardware: the same ports, tags, messages and pace, over a memory.

What they do follows ``gr-uhd/lib/usrp_sink_impl.cc`` and ``usrp_source_impl.cc`` of GNU Radio 3.10.5.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pmt
from gnuradio import gr


def async_message(*codes: str) -> object:
    """What UHD's sink sends."""
    events = pmt.PMT_NIL
    for code in codes:
        events = pmt.list_add(events, pmt.intern(code))
    report = pmt.dict_add(pmt.make_dict(), pmt.intern("event_code"), events)
    report = pmt.dict_add(report, pmt.intern("time_spec"), pmt.cons(pmt.from_long(4), pmt.from_double(0.0608)))
    report = pmt.dict_add(report, pmt.intern("channel"), pmt.from_uint64(0))
    return pmt.cons(pmt.intern("uhd_async_msg"), report)


def overflow_message(count: int) -> object:
    """What UHD's source sends."""
    report = pmt.dict_add(pmt.make_dict(), pmt.intern("overflows"), pmt.from_uint64(count))
    return pmt.cons(pmt.intern("uhd_async_msg"), report)


class Air:
    """What is between the sinks and the sources: a gain, and noise of the receiver."""

    def __init__(self, gain: complex = 0.5j, noise: float = 1e-3) -> None:
        self.gain, self.noise = gain, noise
        self.acknowledges = True
        self.lose: set[int] = set()
        """Packets that vanish, by number."""
        self.overruns: set[int] = set()
        """Calls of the source before which samples are lost."""
        self.listened = threading.Event()
        """Set once a source runs."""
        self.lock = threading.Lock()
        self.waiting: deque[np.ndarray] = deque()
        self.sent: list[np.ndarray] = []
        """The packets, as they came to the sink."""
        self.bad_tags: list[str] = []
        self.settings: dict[str, Any] = {}


class _Device(gr.sync_block):
    def __init__(self, end: str, air: Air, in_sig: list[Any] | None, out_sig: list[Any] | None) -> None:
        gr.sync_block.__init__(self, f"usrp_{end}", in_sig, out_sig)
        self.message_port_register_out(pmt.intern("async_msgs"))
        self.end, self.air, self.rate = end, air, 1e6

    def set_samp_rate(self, rate: float) -> None:
        self.rate = rate

    def get_samp_rate(self) -> float:
        return self.air.settings.get("coerced rate", self.rate)

    def set_center_freq(self, value: float, _channel: int) -> None:
        self.air.settings[f"{self.end} freq"] = value

    def set_gain(self, value: float, _channel: int) -> None:
        self.air.settings[f"{self.end} gain"] = value

    def set_antenna(self, value: str, _channel: int) -> None:
        if value not in ("TX/RX", "RX2"):
            raise RuntimeError(f"ValueError: the antenna {value}\nis not among TX/RX, RX2")
        self.air.settings[f"{self.end} antenna"] = value

    def report(self, message: object) -> None:
        self.message_port_pub(pmt.intern("async_msgs"), message)


class UsrpSink(_Device):
    def __init__(self, air: Air, arguments: str, _stream: object, length_tag: str = "") -> None:
        super().__init__("sink", air, [np.complex64], None)
        self.air.settings["sink arguments"] = arguments
        self.length_tag, self.packet, self.rest = length_tag, [], 0

    def work(self, inputs: list[np.ndarray], _outputs: list[object]) -> int:
        samples, start = inputs[0], self.nitems_read(0)
        tags = {
            tag.offset - start: pmt.to_long(tag.value)
            for tag in self.get_tags_in_window(0, 0, len(samples), pmt.intern(self.length_tag))
        }
        if 0 in tags:
            if self.rest:
                self.air.bad_tags.append(f"{self.rest} samples before {start} a packet is cut short (tP)")
            self.rest = tags[0]
        elif not self.rest:
            self.air.bad_tags.append(f"sample {start} belongs to no packet (tG)")
            return len(samples)
        count = min([len(samples), self.rest, *(offset for offset in tags if offset)])
        self.packet.append(samples[:count].copy())
        self.rest -= count
        time.sleep(count / self.rate)
        if not self.rest:
            whole = np.concatenate(self.packet)
            self.packet = []
            with self.air.lock:
                if len(self.air.sent) not in self.air.lose:
                    self.air.waiting.append(whole)
                self.air.sent.append(whole)
            if self.air.acknowledges:
                self.report(async_message("burst_ack"))
        return count


class UsrpSource(_Device):
    CHUNK = 4096

    def __init__(self, air: Air, _arguments: str, _stream: object) -> None:
        super().__init__("source", air, None, [np.complex64])
        self.rng, self.calls, self.rest = np.random.default_rng(1), 0, np.zeros(0, np.complex64)

    def work(self, _inputs: list[object], outputs: list[np.ndarray]) -> int:
        out = outputs[0][: self.CHUNK]
        if self.calls == 0 or self.calls in self.air.overruns:
            moment = pmt.make_tuple(pmt.from_uint64(0), pmt.from_double(0.1))
            self.add_item_tag(0, self.nitems_written(0), pmt.intern("rx_time"), moment)
        if self.calls in self.air.overruns:
            self.report(overflow_message(1))
        self.calls += 1
        self.air.listened.set()
        noise = self.rng.standard_normal((len(out), 2), np.float32) * np.float32(self.air.noise / 2**0.5)
        out[:] = noise.view(np.complex64)[:, 0]
        if not len(self.rest):
            with self.air.lock:
                if self.air.waiting:
                    self.rest = self.air.waiting.popleft()
        count = min(len(out), len(self.rest))
        out[:count] += np.complex64(self.air.gain) * self.rest[:count]
        self.rest = self.rest[count:]
        time.sleep(len(out) / self.rate)
        return len(out)
