"""GNU Radio's own ZMQ blocks at both ends of crlsc-channel."""

import threading
import time

import numpy as np
import pmt
import pytest
from gnuradio import blocks, gr, zeromq
from gr_helpers import finish

from crlsc_phy.channel import StreamChannel
from crlsc_phy.net.channel.config import EmulatorConfig
from crlsc_phy.net.channel.server import ChannelServer

COUNT = 200_000
FORMS = {
    "push_pull": ("pull", "push", zeromq.push_sink, zeromq.pull_source),
    "pub_sub": ("sub", "pub", zeromq.pub_sink, zeromq.sub_source),
    "req_rep": ("req", "rep", zeromq.rep_sink, zeromq.req_source),
}


@pytest.mark.parametrize("tags", [False, True], ids=["plain", "tags"])
@pytest.mark.parametrize("form", FORMS)
def test_samples_and_tags_cross(top, form, tags):
    tx, rx, make_sink, make_source = FORMS[form]
    samples = np.random.default_rng(1).standard_normal((COUNT, 2)).view(complex)[:, 0].astype(np.complex64)
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value = 150_000, pmt.intern("mark"), pmt.to_pmt({"a": 1})
    # The sink listens, as GNU Radio's do, and the emulator comes to it.
    sink = make_sink(8, 1, "tcp://127.0.0.1:*", 100, tags)
    suffix = "+tags" if tags else ""
    config = {
        "radios": {
            "a": {"tx": f"{tx}{suffix}:{sink.last_endpoint()}"},
            "b": {"rx": f"{rx}{suffix}:tcp://127.0.0.1:*"},
        },
        "links": [{"from": "a", "to": "b", "cfo_hz": 1000.0}],
        "control": "",
    }
    server = ChannelServer(EmulatorConfig.of(config))
    thread = threading.Thread(target=server.run)
    thread.start()
    out = gr.top_block()
    source, head, kept = (
        make_source(8, 1, server.addresses()["b.rx"], 10, tags),
        blocks.head(8, COUNT),
        blocks.vector_sink_c(),
    )
    out.connect(source, head, kept)
    out.start()
    # PUB does not wait: what is sent before somebody listens, or faster than he reads, is gone.
    throttled = blocks.throttle(8, 2e6) if form == "pub_sub" else blocks.copy(8)
    time.sleep(0.5 if form == "pub_sub" else 0)
    top.connect(blocks.vector_source_c(samples.tolist(), False, 1, [tag]), throttled, sink)
    top.start()
    try:
        finish(top, 30)
        deadline = time.monotonic() + 20
        while len(kept.data()) < COUNT and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        server.stop()
        thread.join(10)
        # A ZMQ source does not end with the blocks behind it.
        out.stop()
        out.wait()
    assert np.array_equal(np.array(kept.data(), np.complex64), StreamChannel(cfo_hz=1000.0)(samples))
    if tags:
        assert [(each.offset, pmt.to_python(each.value)) for each in kept.tags()] == [(150_000, {"a": 1})]
