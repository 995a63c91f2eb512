"""The channel's block in real flowgraphs."""

import sys

import numpy as np
import pmt
import pytest
import yaml
from gnuradio import blocks
from gr_helpers import finish, post

from crlsc_phy.channel import MODELS, ChannelSettings, StreamChannel
from crlsc_phy.errors import ChannelError, ServiceError
from crlsc_phy.net.channel.process import ProcessChannel
from gr_blocks.flowgraph import BLOCKS
from gr_blocks.sionna_channel import OTHER_PYTHON, sionna_channel


def noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 2)).view(complex)[:, 0].astype(np.complex64)


def test_it_is_the_stream_channel(top):
    samples = noise(100_000)
    options = {"speed": 30.0, "cfo_hz": 100.0, "sro_ppm": 10.0, "seed": 3}
    block, sink = sionna_channel("tdl-a", 10.0, 1e6, **options), blocks.vector_sink_c()
    top.connect(blocks.vector_source_c(samples.tolist()), block, sink)
    top.start()
    finish(top)
    assert np.array_equal(np.array(sink.data(), np.complex64), StreamChannel("tdl-a", 10.0, **options)(samples))
    assert block.stats() == {"samples": 100_000, "changes": 0, "slips": 0, "errors": 0, "dropped": 0}


def test_two_antennas_are_two_ports(top):
    samples = [noise(20_000, seed) for seed in (1, 2)]
    block, sinks = sionna_channel("cdl-a", None, 1e6, rx=2, tx=2, seed=3), [blocks.vector_sink_c() for _ in range(2)]
    for port in range(2):
        source = blocks.vector_source_c(samples[port].tolist())
        top.kept.append(source)
        top.connect((source, 0), (block, port))
        top.connect((block, port), (sinks[port], 0))
    top.start()
    finish(top)
    expected = StreamChannel("cdl-a", rx=2, tx=2, seed=3)(np.stack(samples))
    for sink, row in zip(sinks, expected, strict=True):
        assert np.array_equal(np.array(sink.data(), np.complex64), row)


def test_messages_change_it_while_it_runs(top):
    head = blocks.head(8, 4_000_000)
    block, sink = sionna_channel("awgn", None, 1e6), blocks.vector_sink_c()
    top.connect(blocks.null_source(8), head, block, sink)
    changes = {"snr_db": 0.0}
    post(block, "set", pmt.to_pmt(changes))
    post(block, "set", pmt.cons(pmt.to_pmt({"cfo_hz": 5.0}), pmt.PMT_NIL))
    for wrong in (pmt.to_pmt({"speeed": 1.0}), pmt.to_pmt({"seed": 5}), pmt.intern("text"), pmt.to_pmt({1: 2})):
        post(block, "set", wrong)
    top.start()
    finish(top)
    assert np.var(sink.data()[-10_000:]) == pytest.approx(1, rel=0.1)
    assert (block.changes, block.errors) == (2, 4)
    assert any("unknown option 'speeed'" in line for line in block.messages)
    assert block._channel.settings.cfo_hz == 5.0


def test_wrong_parameters_are_named_before_anything_runs():
    with pytest.raises(ChannelError, match="channel model 'tdl-q' is unknown"):
        sionna_channel("tdl-q")
    with pytest.raises(ChannelError, match="unknown option 'colour'"):
        sionna_channel("awgn", more={"colour": "red"})


def test_another_python_makes_the_same_of_it(top, monkeypatch):
    samples = noise(100_000)
    options = {"speed": 30.0, "cfo_hz": 100.0, "sro_ppm": 10.0, "seed": 3}
    monkeypatch.setenv(OTHER_PYTHON, sys.executable)
    block, sink = sionna_channel("tdl-a", 10.0, 1e6, **options, more={"dc": 0.01j}), blocks.vector_sink_c()
    assert isinstance(block._channel, ProcessChannel)
    top.connect(blocks.vector_source_c(samples.tolist()), block, sink)
    post(block, "set", pmt.to_pmt({"speeed": 1.0}))
    top.start()
    finish(top)
    assert np.array_equal(
        np.array(sink.data(), np.complex64), StreamChannel("tdl-a", 10.0, dc=0.01j, **options)(samples)
    )
    assert block.stats() == {"samples": 100_000, "changes": 0, "slips": 0, "errors": 1, "dropped": 0}
    assert block._channel._process.poll() is not None


def test_another_python_is_changed_while_it_runs():
    channel = ProcessChannel(sys.executable, ChannelSettings(snr_db=0.0))
    quiet = np.zeros(50_000, np.complex64)
    assert np.var(channel(quiet)) == pytest.approx(1, rel=0.05)
    channel.set(snr_db=20.0)
    assert np.var(channel(quiet)) == pytest.approx(0.01, rel=0.05)
    channel.set(model="static", taps=(0.0, 0.5j))
    channel.close()


def test_another_python_that_has_no_channel_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(OTHER_PYTHON, str(tmp_path / "python"))
    with pytest.raises(ServiceError, match="cannot be run"):
        sionna_channel("awgn")
    (tmp_path / "python").write_text("#!/bin/sh\necho no such module >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ServiceError, match="the channel does not start: no such module"):
        sionna_channel("awgn")
    monkeypatch.setenv(OTHER_PYTHON, sys.executable)
    with pytest.raises(ChannelError, match="one antenna at each end"):
        sionna_channel("awgn", rx=2)


def test_companion_offers_every_model():
    described = yaml.safe_load((BLOCKS / "sionna_channel.block.yml").read_text())
    (model,) = (each for each in described["parameters"] if each["id"] == "model")
    assert model["options"] == list(MODELS)
