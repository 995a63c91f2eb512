"""The channel emulator through real sockets: every form of stream, peers that come and go, questions, keys."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

zmq = pytest.importorskip("zmq")

from crlsc_phy.channel import StreamChannel
from crlsc_phy.cli.channel import main
from crlsc_phy.errors import ChannelError, ServiceError
from crlsc_phy.net.channel import streams
from crlsc_phy.net.channel.config import EmulatorConfig
from crlsc_phy.net.channel.control import ask
from crlsc_phy.net.channel.server import ChannelServer
from crlsc_phy.net.channel.streams import SINKS, SOURCES, Place, Sink, Source
from crlsc_phy.net.curve import make_keys, use_client_keys

ANY = "tcp://127.0.0.1:*"


def noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 2)).view(complex)[:, 0].astype(np.complex64)


@contextlib.contextmanager
def running(radios, links, **options):
    """An emulator in a thread; gives where it listens."""
    server = ChannelServer(EmulatorConfig.of({"radios": radios, "links": links, "control": ANY} | options))
    addresses = server.addresses()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield addresses
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def context():
    made = zmq.Context()
    # Else what was never delivered keeps a socket that is forgotten from closing.
    made.linger = 0
    yield made
    made.destroy(linger=0)


def connected(context, kind, address, **options):
    socket = context.socket(kind)
    for name, value in options.items():
        setattr(socket, name, value)
    socket.rcvtimeo = socket.sndtimeo = 20_000
    if kind == zmq.SUB:
        socket.subscribe(b"")
    socket.connect(address)
    return socket


def received(socket, count):
    parts = []
    while sum(map(len, parts)) < count:
        parts.append(np.frombuffer(socket.recv(), np.complex64))
    return np.concatenate(parts)


def push_all(socket, samples, size=5000):
    for start in range(0, len(samples), size):
        socket.send(samples[start : start + size].tobytes())


def one_link(tx, rx, **settings):
    return {"a": {"tx": tx}, "b": {"rx": rx}}, [{"from": "a", "to": "b", **settings}]


def test_pushed_samples_come_out_as_the_channel_makes_them(context):
    samples = noise(300_000)
    options = {"model": "tdl-a", "snr_db": 10.0, "speed": 30.0, "seed": 5}
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}", **options)) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        threading.Thread(target=push_all, args=(sender, samples)).start()
        out = received(receiver, len(samples))
        stats = ask({"do": "stats"}, at["control"])
    assert np.array_equal(out, StreamChannel(**options)(samples))
    assert stats["position"] == stats["radios"]["a"]["tx"]["samples"] == 300_000
    assert stats["radios"]["b"]["rx"] == {"samples": 300_000, "waiting": 0, "dropped": 0, "errors": 0}


def test_nothing_is_lost_with_a_slow_reader_and_memory_stays_bounded(context):
    samples = noise(400_000)
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}"), queue=20_000) as at:
        sender = connected(context, zmq.PUSH, at["a.tx"], sndhwm=2)
        receiver = connected(context, zmq.PULL, at["b.rx"], rcvhwm=2)
        threading.Thread(target=push_all, args=(sender, samples)).start()
        parts = []
        while sum(map(len, parts)) < len(samples):
            parts.append(np.frombuffer(receiver.recv(), np.complex64))
            if len(parts) % 5 == 0:
                stats = ask({"do": "stats"}, at["control"])["radios"]
                # A message may go beyond the limit, and no more.
                assert max(stats["a"]["tx"]["waiting"], stats["b"]["rx"]["waiting"]) <= 25_000
    assert np.array_equal(np.concatenate(parts), samples)


def test_what_there_is_no_room_for_is_dropped_and_counted_if_so_told(context):
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}"), queue=20_000, full="drop") as at:
        sender = connected(context, zmq.PUSH, at["a.tx"])
        push_all(sender, noise(200_000))
        deadline = time.monotonic() + 20
        while ask({"do": "stats"}, at["control"])["position"] < 200_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        counts = ask({"do": "stats"}, at["control"])["radios"]["b"]["rx"]
    assert counts["dropped"] >= 170_000
    assert counts["dropped"] + counts["waiting"] + counts["samples"] == 200_000


def test_requests_are_answered_with_no_more_than_they_ask(context):
    samples = noise(10_000)
    with running(*one_link("req@tcp://127.0.0.1:*", f"rep:{ANY}")) as at:
        # As GNU Radio's REP sink and REQ source do.
        sender, receiver = connected(context, zmq.REP, at["a.tx"]), connected(context, zmq.REQ, at["b.rx"])
        place = 0

        def serve():
            nonlocal place
            while place < len(samples):
                (most,) = struct.unpack("<I", sender.recv())
                count = min(most, 700)
                sender.send(samples[place : place + count].tobytes())
                place += count

        thread = threading.Thread(target=serve)
        thread.start()
        parts = []
        while sum(map(len, parts)) < len(samples):
            receiver.send(struct.pack("<I", 300))
            parts.append(np.frombuffer(receiver.recv(), np.complex64))
            assert len(parts[-1]) <= 300
        thread.join(10)
    assert np.array_equal(np.concatenate(parts), samples)


def test_srsran_radios_get_exactly_as_many_samples_as_they_give(context):
    """Each asks with one byte and takes whatever comes; both ways at once, as base and terminal do."""
    radios = {name: {"tx": f"srsran-tx@{ANY}", "rx": f"srsran-rx:{ANY}"} for name in ("enb", "ue")}
    links = [{"from": "enb", "to": "ue"}, {"from": "ue", "to": "enb", "cfo_hz": 100.0}]
    sent = {name: noise(50_000, seed) for seed, name in enumerate(radios)}
    got = {name: [] for name in radios}
    with running(radios, links, together=True, patience_s=10.0) as at:

        def transmit(name):
            socket = connected(context, zmq.REP, at[f"{name}.tx"])
            for start in range(0, 50_000, 1000):
                assert len(socket.recv()) == 1
                socket.send(sent[name][start : start + 1000].tobytes())

        def receive(name):
            socket = connected(context, zmq.REQ, at[f"{name}.rx"])
            while sum(map(len, got[name])) < 50_000:
                socket.send(b"\xff")
                got[name].append(np.frombuffer(socket.recv(), np.complex64))

        threads = [threading.Thread(target=do, args=(name,)) for do in (transmit, receive) for name in radios]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert np.array_equal(np.concatenate(got["ue"]), sent["enb"])
    assert np.array_equal(np.concatenate(got["enb"]), StreamChannel(cfo_hz=100.0)(sent["ue"]))


def test_terminals_interfere(context):
    radios = {"a": {"tx": f"pull@{ANY}"}, "b": {"tx": f"pull@{ANY}"}, "c": {"rx": f"push:{ANY}"}}
    links = [{"from": "a", "to": "c", "model": "static", "taps": [0.5]}, {"from": "b", "to": "c", "model": "tdl-b"}]
    first, second = noise(40_000, 1), noise(40_000, 2)
    with running(radios, links, together=True, patience_s=10.0) as at:
        receiver = connected(context, zmq.PULL, at["c.rx"])
        for name, samples in (("a", first), ("b", second)):
            push_all(connected(context, zmq.PUSH, at[f"{name}.tx"], linger=5000), samples)
        out = received(receiver, 40_000)
        stats = ask({"do": "stats"}, at["control"])["radios"]
    assert stats["a"]["tx"]["samples"] == stats["b"]["tx"]["samples"] == len(out) == 40_000
    assert np.allclose(out, 0.5 * first + StreamChannel("tdl-b")(second), atol=1e-6)


def test_a_silent_sender_does_not_stop_the_others(context):
    radios = {"a": {"tx": f"pull@{ANY}"}, "b": {"tx": f"pull@{ANY}"}, "c": {"rx": f"push:{ANY}"}}
    links = [{"from": name, "to": "c"} for name in "ab"]
    samples = noise(20_000)
    with running(radios, links, patience_s=0.05) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["c.rx"])
        push_all(sender, samples)
        assert np.array_equal(received(receiver, 20_000), samples)


def tagged(samples, offset, *tags):
    parts = [struct.pack("<HBQQ", 0x5FF0, 1, offset, len(tags))]
    parts += [struct.pack("<Q", place) + content for place, content in tags]
    return b"".join((*parts, samples.tobytes()))


def test_tags_cross_at_their_samples(context):
    pmt = pytest.importorskip("pmt")
    content = b"".join(pmt.serialize_str(part) for part in (pmt.intern("key"), pmt.to_pmt({"a": 1}), pmt.PMT_F))
    samples = noise(1000)
    with running(*one_link(f"pull+tags@{ANY}", f"push+tags:{ANY}")) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        # The sender had been running for a while.
        sender.send(tagged(samples[:600], 5000, (5003, content)))
        sender.send(tagged(samples[600:], 5600, (5999, content)))
        seen, parts = [], []
        while sum(map(len, parts)) < 1000:
            data = receiver.recv()
            magic, version, offset, count = struct.unpack_from("<HBQQ", data)
            assert (magic, version, offset) == (0x5FF0, 1, sum(map(len, parts)))
            at_byte = 19
            for _ in range(count):
                seen.append(struct.unpack_from("<Q", data, at_byte)[0])
                assert data[at_byte + 8 : at_byte + 8 + len(content)] == content
                at_byte += 8 + len(content)
            parts.append(np.frombuffer(data[at_byte:], np.complex64))
    assert seen == [3, 999]
    assert np.array_equal(np.concatenate(parts), samples)


def bound(context, kind):
    socket = context.socket(kind)
    return socket, f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


def taken_in(source, count):
    """The samples that have come, once there are as many."""
    deadline = time.monotonic() + 20
    while source.waiting < count and time.monotonic() < deadline:
        source.ask()
        source.fill()
        time.sleep(0.001)
    return source.take(source.waiting)[0]


@pytest.mark.parametrize("key", [b"channel1", b"iq", b"sixteen-bytes-ab", b"\0" * 8, b""])
@pytest.mark.parametrize("tags", ["", "+tags"])
@pytest.mark.parametrize("form", ["sub", "pull", "req"])
def test_a_key_is_never_a_sample(context, form, tags, key):
    """GNU Radio's PUB sink with a key sends [key, samples]; keys of 8 bytes look like a sample."""
    samples = noise(512)
    sender, address = bound(context, {"sub": zmq.XPUB, "pull": zmq.PUSH, "req": zmq.REP}[form])
    sender.rcvtimeo = 20_000
    place = Place.parse(f"{form}{tags}:{address}", SOURCES)
    source = Source(place, place.open(context, SOURCES[form]), 1 << 16)
    source.ask()
    if form != "pull":
        # A question, or word of the subscription.
        sender.recv()
    sender.send_multipart([*([key] if key else []), tagged(samples, 0) if tags else samples.tobytes()])
    assert np.array_equal(taken_in(source, 512), samples)
    assert (source.errors, source.messages) == (0, 1)


def test_a_subscription_to_a_key_takes_no_other_messages(context):
    samples = noise(10)
    sender, address = bound(context, zmq.XPUB)
    sender.rcvtimeo = 20_000
    place = Place.parse(f"sub+key=iq:{address}", SOURCES)
    source = Source(place, place.open(context, zmq.SUB), 1 << 16)
    assert sender.recv() == b"\x01iq"
    sender.send_multipart([b"other", samples.tobytes()])
    # Samples that begin as the key does.
    sender.send(b"iq" + samples.tobytes()[2:])
    sender.send_multipart([b"iq", samples.tobytes()])
    assert np.array_equal(taken_in(source, 10), samples)
    assert source.samples == 10


def test_a_key_is_sent_where_it_is_asked_for_and_refused_where_there_is_none(context):
    place = Place.parse(f"pub+tags+key=iq:{ANY}", SINKS)
    socket = place.open(context, zmq.PUB)
    sink = Sink(place, socket, 1 << 16)
    receiver = connected(context, zmq.SUB, socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
    samples, deadline = noise(5), time.monotonic() + 20
    while not receiver.poll(10):
        assert time.monotonic() < deadline
        sink.give(samples, [])
    key, message = receiver.recv_multipart()
    assert (key, message[19:]) == (b"iq", samples.tobytes())
    with pytest.raises(ServiceError, match="only sub and pub have keys; leave out .key="):
        Place.parse("push+key=iq:tcp://127.0.0.1:1", SINKS)


def test_what_else_a_question_holds_is_not_part_of_the_answer(context):
    samples = noise(30)
    with running(*one_link(f"pull@{ANY}", f"rep:{ANY}")) as at:
        sender = connected(context, zmq.PUSH, at["a.tx"])
        asker, dealer = connected(context, zmq.REQ, at["b.rx"]), connected(context, zmq.DEALER, at["b.rx"])
        sender.send(samples.tobytes())
        ten = struct.pack("<I", 10)
        for socket, parts, answered in (
            (asker, [b"channel1", ten], 1),
            (dealer, [b"", b"channel1", ten], 2),
            (dealer, [ten], 1),
        ):
            socket.send_multipart(parts)
            answer = socket.recv_multipart()
            assert len(answer) == answered
            assert np.array_equal(np.frombuffer(answer[-1], np.complex64), samples[:10])
            samples = samples[10:]


@pytest.mark.parametrize("key", ["", "channel1"])
def test_gnuradios_own_blocks_with_and_without_a_key(key):
    zeromq = pytest.importorskip("gnuradio.zeromq")
    from gnuradio import blocks, gr

    samples = noise(2000)
    suffix = f"+key={key}" if key else ""
    top = gr.top_block()
    sink = zeromq.pub_sink(gr.sizeof_gr_complex, 1, "tcp://127.0.0.1:*", 100, False, -1, key)
    with running(*one_link(f"sub:{sink.last_endpoint()}", f"pub{suffix}:{ANY}"), patience_s=10.0) as at:
        source = zeromq.sub_source(gr.sizeof_gr_complex, 1, at["b.rx"], 100, False, -1, key)
        head, out = blocks.head(gr.sizeof_gr_complex, 3 * len(samples)), blocks.vector_sink_c()
        # Again and again, for what is sent before a subscription is lost; slowly, or most of it is dropped.
        again = blocks.vector_source_c(samples.tolist(), repeat=True)
        top.connect(again, blocks.throttle(gr.sizeof_gr_complex, 1e6), sink)
        top.connect(source, head, out)
        top.start()
        deadline = time.monotonic() + 20
        while len(out.data()) < 3 * len(samples) and time.monotonic() < deadline:
            time.sleep(0.01)
        top.stop()
        top.wait()
        stats = ask({"do": "stats"}, at["control"])["radios"]["a"]["tx"]
    got = np.array(out.data(), np.complex64)
    assert len(got) == 3 * len(samples)
    assert np.isin(got, samples).all()
    assert stats["errors"] == 0


DEEP = b"\x07" * 10_000
HUGE = b"\x0a\x00" + struct.pack(">I", 0xFFFFFFF0) + b"\x00"


@pytest.mark.parametrize(
    ("form", "message", "said"),
    [
        ("pull", noise(10).tobytes() + b"abc", "3 bytes into a sample"),
        ("pull+tags", b"short", "is too short for the header of tags"),
        ("pull+tags", b"x" * 100, "does not begin with the header of tags"),
        ("pull+tags", struct.pack("<HBQQ", 0x5FF0, 1, 0, 2**60), "claims 1152921504606846976 tags"),
        ("pull+tags", struct.pack("<HBQQ", 0x5FF0, 1, 0, 1) + bytes(8) + DEEP, "nests more than"),
        ("pull+tags", struct.pack("<HBQQ", 0x5FF0, 1, 0, 1) + bytes(8) + HUGE, "cut short"),
        ("pull+tags", struct.pack("<HBQQ", 0x5FF0, 1, 0, 3) + bytes(4), "ends within its tags"),
    ],
)
def test_rubbish_is_counted_and_the_stream_goes_on(context, caplog, form, message, said):
    samples = noise(100)
    good = tagged(samples, 0) if "tags" in form else samples.tobytes()
    with running(*one_link(f"{form}@{ANY}", f"push:{ANY}")) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        for _ in range(3):
            sender.send(message)
        sender.send(good)
        out = received(receiver, 100)
        while len(out) < 130 and form == "pull":
            out = np.concatenate((out, received(receiver, 1)))
        stats = ask({"do": "stats"}, at["control"])["radios"]["a"]["tx"]
    assert np.array_equal(out[-100:], samples)
    assert stats["errors"] == 3
    assert said in stats["last_error"]
    assert len([record for record in caplog.records if said in record.getMessage()]) == 1


def test_a_sender_may_die_and_come_back_a_hundred_times(context):
    samples = noise(100 * 500)
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}")) as at:
        receiver = connected(context, zmq.PULL, at["b.rx"])
        for life in range(100):
            sender = connected(context, zmq.PUSH, at["a.tx"])
            sender.send(samples[500 * life : 500 * (life + 1)].tobytes())
            sender.close(linger=1000)
            assert np.array_equal(received(receiver, 500), samples[500 * life : 500 * (life + 1)])


def test_a_requester_may_die_with_its_question_unanswered(context):
    samples = noise(1000)
    with running(*one_link(f"pull@{ANY}", f"rep:{ANY}")) as at:
        for _ in range(100):
            dying = connected(context, zmq.REQ, at["b.rx"])
            dying.send(struct.pack("<I", 10))
            dying.close(linger=100)
        # A connection that has just been cut still takes an answer.
        time.sleep(0.5)
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.REQ, at["b.rx"])
        sender.send(samples.tobytes())
        receiver.send(struct.pack("<I", 1000))
        assert np.array_equal(np.frombuffer(receiver.recv(), np.complex64), samples)


def test_questions_faster_than_libzmq_hears_of_answers_that_were_read(context):
    samples = noise(500)
    with running(*one_link(f"pull@{ANY}", f"rep:{ANY}")) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.DEALER, at["b.rx"])
        for _ in range(500):
            receiver.send_multipart([b"", struct.pack("<I", 1)])
        sender.send(samples.tobytes())
        parts = [receiver.recv_multipart()[1] for _ in range(500)]
    assert np.array_equal(np.frombuffer(b"".join(parts), np.complex64), samples)


@pytest.fixture
def impatient(monkeypatch):
    """Peers that left are asked again sooner."""
    monkeypatch.setattr(streams, "_ASK_AGAIN_S", 0.2)


@pytest.mark.parametrize("form", ["req", "srsran-tx"])
@pytest.mark.usefixtures("impatient")
def test_a_sender_may_take_its_time_to_answer(context, form):
    samples = noise(3000)
    with running(*one_link(f"{form}@{ANY}", f"push:{ANY}")) as at:
        sender, receiver = connected(context, zmq.REP, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        for start in (0, 1000, 2000):
            sender.recv()
            time.sleep(0.5 if start == 1000 else 0)
            sender.send(samples[start : start + 1000].tobytes())
        assert np.array_equal(received(receiver, 3000), samples)


@pytest.mark.parametrize("listens", ["emulator", "sender"])
@pytest.mark.usefixtures("impatient")
def test_a_sender_may_die_with_a_question_unanswered(context, listens):
    samples = noise(1000)
    # Each life has a context of its own: its end waits until the port is free.
    with zmq.Context() as life, life.socket(zmq.REP) as sender:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
    place = f"req@{ANY}" if listens == "emulator" else f"req:tcp://127.0.0.1:{port}"
    with running(*one_link(place, f"push:{ANY}")) as at:
        receiver = connected(context, zmq.PULL, at["b.rx"])
        for _ in range(3):
            with zmq.Context() as life, life.socket(zmq.REP) as sender:
                sender.linger, sender.rcvtimeo = 0, 20_000
                if listens == "emulator":
                    sender.connect(at["a.tx"])
                else:
                    sender.bind(f"tcp://127.0.0.1:{port}")
                sender.recv()
                sender.send(samples.tobytes())
                assert np.array_equal(received(receiver, 1000), samples)
                sender.recv()


def test_any_order_of_starting(context):
    """Both peers listen, the emulator connects to them, and comes last."""
    sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (sender, receiver)]
    receiver.rcvtimeo = 20_000
    samples = noise(5000)
    threading.Thread(target=push_all, args=(sender, samples)).start()
    time.sleep(0.2)
    places = f"pull:tcp://127.0.0.1:{ports[0]}", f"push>tcp://127.0.0.1:{ports[1]}"
    with running(*one_link(*places)):
        assert np.array_equal(received(receiver, 5000), samples)


def test_questions(context, tmp_path):
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}", model="tdl-a", speed=10.0)) as at:
        control = at["control"]
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        assert ask({"do": "get"}, control)["settings"]["model"] == "tdl-a"
        assert ask({"do": "set", "link": "a>b", "snr_db": 7.0}, control)["position"] == 0
        assert ask({"do": "get", "link": "a>b"}, control)["settings"]["snr_db"] == 7.0
        ask({"do": "ramp", "setting": "snr_db", "to": 27.0, "seconds": 0.1}, control)
        values = []
        for _ in range(20):
            push_all(sender, noise(10_000))
            received(receiver, 10_000)
            values.append(ask({"do": "get"}, control)["settings"]["snr_db"])
        assert values == sorted(values)
        assert values[0] < 20 < values[-1] == 27.0
        file = str(tmp_path / "channel.npz")
        ask({"do": "record", "file": file, "start": 0, "stop": 100_000}, control)
        with np.load(file) as arrays:
            assert arrays["gains"].shape[1:] == (1, 1, 23)
        for question, said in (
            ({"do": "dance"}, "question 'dance' is unknown; choose one of get, set"),
            ({"do": ["set"]}, "is unknown; choose one of get, set"),
            ({"do": "get", "link": "b>a"}, "link 'b>a' is unknown; choose one of a>b"),
            ({"do": "get", "link": {}}, "is unknown; choose one of a>b"),
            ({"do": "set", "speeed": 1}, "unknown option 'speeed'; choose one of speed, "),
            ({"do": "set", "seed": 1}, "seed cannot change"),
            ({"do": "ramp", "setting": "model", "to": 1, "seconds": 1}, "setting 'model' is not a number now"),
            ({"do": "ramp", "setting": "speed", "to": -1, "seconds": 1}, r"speed is -1\.0; it must be 0 or more"),
            ({"do": "record", "file": file, "start": 5, "stop": 5}, "stop must be above start"),
            ({"do": "record", "file": file, "start": 0, "stop": 10**12}, "by 100 s of samples at most"),
        ):
            with pytest.raises(ServiceError, match=said):
                ask(question, control)
        raw = connected(context, zmq.REQ, control)
        for rubbish in (b"{", b"[1]", b"\xff\xfe", b"[" * 5000):
            raw.send(rubbish)
            assert json.loads(raw.recv())["ok"] is False


def test_a_ramp_that_a_change_makes_impossible_ends_and_the_stream_goes_on(context, caplog):
    samples = noise(100_000)
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}", model="tdl-a")) as at:
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        # The last path of tdl-a then is 3.8 ms late, which fits 4096 taps; that of tdl-e would be 8 ms late.
        ask({"do": "ramp", "setting": "delay_spread", "to": 390e-6, "seconds": 0.3}, at["control"])
        ask({"do": "set", "model": "tdl-e"}, at["control"])
        for _ in range(3):
            push_all(sender, samples)
            assert len(received(receiver, len(samples))) == len(samples)
        assert ask({"do": "stats"}, at["control"])["position"] == 300_000
    said = [record for record in caplog.records if "the ramp of delay_spread ends here" in record.getMessage()]
    assert len(said) == 1


OUT_OF_RANGE = [
    ({"snr_db": -4000}, "snr_db is -4000; it must be -300 or more"),
    ({"doppler_hz": 1e300}, r"doppler_hz is 1e\+300; it must be 1e\+12 or less"),
    ({"rice_k_db": 4000}, "rice_k_db is 4000; it must be 300 or less"),
    ({"clip_db": 1e300}, "clip_db is"),
    ({"cfo_hz": -1e300}, "cfo_hz is"),
    ({"delay_spread": 10.0}, "beyond 4096 taps"),
    ({"taps": ["1e300"]}, "it must be finite"),
    ({"taps": 10**400}, "it must be a complex number"),
    ({"snr_db": float("nan")}, "it must be a finite number"),
    ({"sample_rate": 2e6}, "sample_rate cannot change while the channel runs"),
    ({"self": 1}, "unknown option 'self'"),
]


def test_what_is_out_of_range_is_refused_when_it_is_set_and_the_stream_goes_on(context):
    samples = noise(1000)
    # Ramps begin at a number.
    numbers = {"snr_db": 10.0, "doppler_hz": 10.0, "clip_db": 30.0}
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}", model="tdl-d", **numbers)) as at:
        for change, said in OUT_OF_RANGE:
            with pytest.raises(ServiceError, match=said):
                ask({"do": "set"} | change, at["control"])
            ((setting, target),) = change.items()
            if setting in ("taps", "self"):
                continue
            with pytest.raises(ServiceError, match=said.partition(" is ")[0]):
                ask({"do": "ramp", "setting": setting, "to": target, "seconds": 0.001}, at["control"])
        for seconds in (1e308, -1.0, float("nan"), float("inf"), "soon", True):
            with pytest.raises(ServiceError, match="ramp: seconds is"):
                ask({"do": "ramp", "setting": "snr_db", "to": 0, "seconds": seconds}, at["control"])
        for start, stop in ((0, 10**30), (-5, 5), (0.5, 7), (True, 7)):
            with pytest.raises(ServiceError, match="record: st"):
                ask({"do": "record", "file": "x.npz", "start": start, "stop": stop}, at["control"])
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        sender.send(samples.tobytes())
        assert np.isfinite(received(receiver, 1000)).all()


@pytest.mark.parametrize(("change", "said"), OUT_OF_RANGE[:8])
def test_what_is_out_of_range_is_refused_in_the_file_too(change, said):
    with pytest.raises((ServiceError, ChannelError), match=said):
        ChannelServer(
            EmulatorConfig.of({"radios": RADIOS, "links": [LINK | {"model": "tdl-d"} | change], "control": ANY})
        )


def test_a_fault_of_ours_in_a_question_does_not_end_the_streams(context, monkeypatch, caplog):
    samples = noise(1000)
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}")) as at:
        monkeypatch.setattr(ChannelServer, "_stats", lambda *_: 1 / 0)
        with pytest.raises(ServiceError, match="internal error .ZeroDivisionError: division by zero"):
            ask({"do": "stats"}, at["control"])
        sender, receiver = connected(context, zmq.PUSH, at["a.tx"]), connected(context, zmq.PULL, at["b.rx"])
        sender.send(samples.tobytes())
        assert np.array_equal(received(receiver, 1000), samples)
    assert "a question failed" in caplog.text


def test_numbers_are_those_of_yaml_1_2_wherever_they_are_written(tmp_path):
    file = tmp_path / "channel.yaml"
    file.write_text(
        f"radios: {{a: {{tx: 'pull@{ANY}'}}, b: {{rx: 'push:{ANY}'}}}}\n"
        "defaults: {sample_rate: 11.52e6, delay_spread: 1e-7, noise_power: 2.5E-3}\n"
        "links: [{from: a, to: b, snr_db: 20, taps: [1, 0.5-0.2j, 1e-1], dc: 1e-3j}]\n"
        "patience_s: 2e-1\nqueue: 0x1000\n"
    )
    config = EmulatorConfig.load(file)
    settings = config.links[0].settings
    assert (settings.sample_rate, settings.delay_spread, settings.snr_db) == (11.52e6, 1e-7, 20.0)
    # What a link says counts, whichever of the two that give the noise the defaults had.
    assert settings.noise_power is None
    assert (settings.taps, settings.dc) == ((1, 0.5 - 0.2j, 0.1), 1e-3j)
    assert (config.patience_s, config.queue) == (0.2, 4096)


def test_questions_take_what_numpy_users_have():
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}", model="static", taps=np.array([1, 0.5j]))) as at:
        changes = {"snr_db": np.float32(7), "taps": np.array([0.25, 1j], np.complex64), "block": np.int16(5)}
        ask({"do": "set"} | changes, at["control"])
        settings = ask({"do": "get"}, at["control"])["settings"]
    assert (settings["snr_db"], settings["block"]) == (7.0, 5)
    assert list(map(complex, settings["taps"])) == [0.25, 1j]


def test_only_peers_with_a_key_get_in(context, tmp_path, caplog):
    make_keys(tmp_path / "keys")
    make_keys(tmp_path / "others")
    samples = noise(1000)
    with running(*one_link(f"pull@{ANY}", f"push:{ANY}"), keys=str(tmp_path / "keys")) as at:
        stranger = context.socket(zmq.PUSH)
        use_client_keys(stranger, tmp_path / "others")
        stranger.connect(at["a.tx"])
        naked = connected(context, zmq.PUSH, at["a.tx"])
        guest = context.socket(zmq.PUSH)
        # Knows the service, but the service does not know it.
        (tmp_path / "others/server.key").write_bytes((tmp_path / "keys/server.key").read_bytes())
        use_client_keys(guest, tmp_path / "others")
        guest.connect(at["a.tx"])
        for socket in (stranger, naked, guest):
            with contextlib.suppress(zmq.Again):
                socket.send(noise(10).tobytes(), zmq.NOBLOCK)
        sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        receiver.rcvtimeo = 20_000
        for socket, name in ((sender, "a.tx"), (receiver, "b.rx")):
            use_client_keys(socket, tmp_path / "keys")
            socket.connect(at[name])
        sender.send(samples.tobytes())
        assert np.array_equal(received(receiver, 1000), samples)
        stats = ask({"do": "stats"}, at["control"], keys=str(tmp_path / "keys"))
        assert stats["radios"]["a"]["tx"]["samples"] == 1000
        deadline = time.monotonic() + 20
        while stats["turned_away"] < 3 and time.monotonic() < deadline:
            stats = ask({"do": "stats"}, at["control"], keys=str(tmp_path / "keys"))
        assert stats["turned_away"] >= 3
        with pytest.raises(ServiceError, match="nothing answers within"):
            ask({"do": "stats"}, at["control"], 0.3)
    said = {record.getMessage() for record in caplog.records}
    assert {line.partition("turned away: ")[2] for line in said} == {
        "its key is not in the service's folder",
        "it has no keys, or those of another service",
    }


RADIOS = {"a": {"tx": f"pull@{ANY}"}, "b": {"rx": f"push:{ANY}"}}
LINK = {"from": "a", "to": "b"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"radios": {"a": {"tx": "pull@tcp://0.0.0.0:*"}, "b": RADIOS["b"]}}, "other machines could connect"),
        ({"control": "tcp://*:8425"}, "other machines could connect"),
        (
            {"radios": {"a": {"tx": "carrier pigeon"}, "b": RADIOS["b"]}},
            "stream 'carrier pigeon' is unknown; write FORM:tcp",
        ),
        ({"radios": {"a": {"tx": f"push:{ANY}"}, "b": RADIOS["b"]}}, "where FORM is one of pull, sub, req"),
        (
            {"radios": {"a": {"tx": f"pull@{ANY}", "colour": 1}, "b": RADIOS["b"]}},
            "radios.a: unknown option 'colour'; choose one of rx, tx",
        ),
        ({"radios": {"a": RADIOS["a"]}}, "there must be a radio with tx and one with rx"),
        ({"radios": []}, "radios is []; it must be a mapping of options"),
        ({"links": []}, "there are no links"),
        ({"links": [LINK, LINK]}, "two links have the same ends"),
        ({"links": [{"from": "b", "to": "a"}]}, "no radio 'b' with tx"),
        ({"links": [{"from": "a"}]}, "link {'from': 'a'}: needs from and to"),
        ({"links": [LINK | {"colour": 1}]}, "link a>b: unknown option 'colour'; choose one of adc_bits"),
        ({"links": [LINK | {"rx": 2}]}, "link a>b: a stream has one antenna"),
        ({"links": [LINK | {"taps": ["x"]}]}, "link a>b: taps[0] is 'x'; it must be a complex number such as 0.5-0.2j"),
        ({"links": [LINK | {"speed": -1.0}]}, "link a>b: speed is -1.0; it must be 0 or more"),
        ({"links": [LINK | {"model": "tdl-z"}]}, "channel model 'tdl-z' is unknown"),
        ({"queue": 3}, "queue is 3; it must be 1024 or more"),
        ({"full": "explode"}, "full is 'explode'; it must be 'wait' or 'drop'"),
        ({"patience_s": 0}, "patience_s is 0; it must be above 0"),
        ({"velocity": 3}, "unknown option 'velocity'; choose one of control"),
        ({"defaults": {"colour": 3}}, "defaults: unknown option 'colour'"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, capsys, change, said):
    import yaml

    file = tmp_path / "channel.yaml"
    file.write_text(yaml.safe_dump({"radios": RADIOS, "links": [LINK], "control": ANY} | change))
    assert main(["run", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("crlsc-channel: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "give a YAML file, or --tx and --rx"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["run", "--tx", f"pull@{ANY}", "--rx", f"push:{ANY}", "--set", "speed"], "write NAME=VALUE"),
        (["run", "--tx", f"pull@{ANY}", "--rx", "push:tcp://127.0.0.1:port"], "127.0.0.1:port: Invalid argument"),
        (["run", "--tx", f"pull@{ANY}", "--rx", f"push:{ANY}", "--keys", "nowhere"], "cannot be read as a key"),
        (["ask", "stats", "--control", "tcp://127.0.0.1:1", "--timeout", "0.1"], "nothing answers within 0.1 s"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_errors_of_a_link_are_its_own():
    with pytest.raises(ChannelError, match="link a>b: snr_db is 'loud'; it must be a number"):
        EmulatorConfig.of({"radios": RADIOS, "links": [LINK | {"snr_db": "loud"}]})


def test_the_command_runs_is_asked_and_stops(context, capsys):
    command = [sys.executable, "-m", "crlsc_phy.cli.channel", "run", "--json", "--control", ANY]
    command += ["--tx", f"pull@{ANY}", "--rx", f"push:{ANY}", "--model", "rician-block", "--set", "snr_db=12"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        at = json.loads(process.stdout.readline())["running"]
        sender, receiver = (
            connected(context, zmq.PUSH, at["sender.tx"]),
            connected(context, zmq.PULL, at["receiver.rx"]),
        )
        samples = noise(10_000)
        push_all(sender, samples)
        assert np.array_equal(received(receiver, 10_000), StreamChannel("rician-block", 12.0)(samples))
        assert main(["ask", "--control", at["control"], "set", "snr_db=3"]) == 0
        assert "link: sender>receiver" in capsys.readouterr().out
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    assert "tdl-a           3GPP TR 38.901" in capsys.readouterr().out
