"""Throughput of crlsc-channel, from GNU Radio and back to GNU Radio.

    python benchmarks/channel_zmq.py [--samples 150000000] [--out benchmarks/results/channel_zmq.json]

GNU Radio's ZMQ sink and source run in this process, the emulator in one of its own; all share the machine's cores. The
time is that from the start of the sender to the last sample that comes out; "lost" is what does not.
"""

from __future__ import annotations

import time
from typing import Any

import bench
from gnuradio import blocks, gr, zeromq

FORMS = {
    "PUSH/PULL": ("pull", "push", zeromq.push_sink, zeromq.pull_source),
    "REQ/REP": ("req", "rep", zeromq.rep_sink, zeromq.req_source),
}
CHANNELS: dict[str, list[str]] = {
    "AWGN": ["--model", "awgn", "--set", "snr_db=10"],
    "TDL-A and AWGN": ["--model", "tdl-a", "--set", "snr_db=10"],
}
STALL_S = 5.0


def measure(form: str, channel: str, count: int) -> dict[str, Any]:
    tx, rx, make_sink, make_source = FORMS[form]
    sink = make_sink(8, 1, "tcp://127.0.0.1:*", 100, False)
    ends = ["--tx", f"{tx}:{sink.last_endpoint()}", "--rx", f"{rx}:tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
    with bench.served("crlsc_phy.cli.channel", "run", "--json", *ends, *CHANNELS[channel]) as told:
        at = told["running"]
        sending, receiving = gr.top_block(), gr.top_block()
        zeros, head = blocks.null_source(8), blocks.head(8, count)
        source, counted = make_source(8, 1, at["receiver.rx"], 10, False), blocks.null_sink(8)
        sending.connect(zeros, head, sink)
        receiving.connect(source, counted)
        receiving.start()
        began = moved = time.monotonic()
        sending.start()
        received = 0
        while received < count and time.monotonic() - moved < STALL_S:
            time.sleep(0.01)
            now = counted.nitems_read(0)
            received, moved = now, (moved if now == received else time.monotonic())
        receiving.stop()
        sending.stop()
    rate = received / (moved - began) / 1e6
    return {"form": form, "channel": channel, "msamples_s": round(rate, 2), "sent": count, "lost": count - received}


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=None)
    benchmark.add("--samples", 150_000_000, "samples of each case", quick=2_000_000)
    options = benchmark.parse()
    rows = [measure(form, channel, options.samples) for form in FORMS for channel in CHANNELS]
    bench.show("Through crlsc-channel", rows)
    benchmark.write({"rows": rows})


if __name__ == "__main__":
    main()
