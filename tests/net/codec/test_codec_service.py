"""The codec service over real sockets: what it answers, what it refuses, and what it survives."""

import contextlib
import dataclasses
import json
import logging
import re
import shutil
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

zmq = pytest.importorskip("zmq", reason="the codec service needs pyzmq")

from crlsc_phy.cli import codec as command
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import ServiceError
from crlsc_phy.images import load_image, resize, save_png
from crlsc_phy.knowledge import Entry, KnowledgeBase
from crlsc_phy.net import pmt_wire
from crlsc_phy.net.codec.client import CodecClient
from crlsc_phy.net.codec.server import CodecServer
from crlsc_phy.net.codec.wire import LARGEST_PART
from crlsc_phy.net.curve import make_keys
from crlsc_phy.net.messages import frame_to_message, image_to_message
from crlsc_phy.net.pmt_wire import Pair

ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def server(codec):
    with CodecServer(codec, ANY) as running:
        yield running


@pytest.fixture
def client(server):
    with CodecClient(server.address) as connected:
        yield connected


@pytest.fixture
def context():
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def connect(context, kind, address, seconds=10):
    made = context.socket(kind)
    made.linger, made.rcvtimeo, made.sndtimeo = 0, round(1000 * seconds), round(1000 * seconds)
    made.connect(address)
    return made


def ask(context, address, *parts):
    """What a plain REQ socket is answered."""
    requester = connect(context, zmq.REQ, address)
    requester.send_multipart(parts)
    answer = requester.recv_multipart()
    requester.close(linger=0)
    return answer


def header(**meta):
    return json.dumps({"crlsc": 1, **meta}).encode()


@pytest.fixture(scope="module")
def picture(image_folder):
    return resize(load_image(image_folder / "owl.jpg"), 64, 72)


@pytest.fixture(scope="module")
def slow_codec(codec):
    """The codec, and an event that holds it up."""

    class Held(SemanticCodec):
        def encode(self, *arguments, **options):
            self.entered.set()
            assert self.release.wait(20)
            return super().encode(*arguments, **options)

    held = Held(codec.bundle, codec.runtime)
    held.entered, held.release = threading.Event(), threading.Event()
    return held


def test_answers_are_those_of_the_codec(client, codec, picture):
    frame = client.encode(picture, sequence=7, levels=3)
    assert frame == codec.encode(picture, sequence=7, levels=3)
    assert client.encode(picture, mode="analog") == codec.encode(picture, mode="analog")
    lost = dataclasses.replace(frame, erasures=((3, 50),))
    for sent in (frame, lost, dataclasses.replace(frame, semantic=None), dataclasses.replace(frame, detail=None)):
        image, meta = client.decode(sent, neighbours=2)
        result = codec.decode(sent)
        assert np.array_equal(image, result.image)
        assert (meta["label"], meta["sequence"]) == (result.label, 7)
        assert [near["name"] for near in meta["neighbours"]] == [near.name for near in result.neighbours[:2]]
        assert [meta["semantic_ok"], meta["detail_ok"]] == list(result.layers_ok.values())


def test_a_lost_air_code_is_repaired(client, codec, picture):
    lost = dataclasses.replace(codec.encode(picture), semantic=None)
    llrs = (2 * np.unpackbits(np.array(codec.bundle.knowledge.codes[17])).astype(np.float32) - 1) * 4
    _, meta = client.decode(lost, semantic_llr=llrs)
    assert meta["repaired"]
    assert meta["label"] == codec.decode(lost, semantic_llr=llrs).label
    with pytest.raises(ServiceError, match="LLRs of the semantic layer"):
        client.decode(lost, semantic_llr=llrs[:5])


def test_pdus_are_answered_by_pdus(server, context, codec, picture):
    meta, data = image_to_message(picture, 9, {"name": "owl"})
    (answer,) = ask(context, server.address, pmt_wire.encode(Pair(meta, data)))
    pdu = pmt_wire.decode(answer)
    assert pdu.cdr.tobytes() == codec.encode(picture, sequence=9).to_bytes()
    assert pdu.car["semantic_ok"] is True
    (answer,) = ask(context, server.address, pmt_wire.encode(Pair({**pdu.car, "snr_db": 4.5}, pdu.cdr)))
    decoded = pmt_wire.decode(answer)
    result = codec.decode(codec.encode(picture))
    assert np.array_equal(decoded.cdr.reshape(64, 72, 3), result.image)
    assert (decoded.car["label"], decoded.car["snr_db"], decoded.car["repaired"]) == (result.label, 4.5, False)
    assert decoded.car["neighbours"][0]["base"] == result.neighbours[0].base
    (answer,) = ask(context, server.address, pmt_wire.encode(Pair({"event": "end"}, None)))
    assert pmt_wire.decode(answer) == Pair({"event": "end"}, None)


def test_jobs_that_nobody_waits_for(codec, context, picture):
    with CodecServer(codec, ANY, pull=ANY, push=ANY) as server:
        sink = connect(context, zmq.PULL, server.addresses["push"])
        source = connect(context, zmq.PUSH, server.addresses["pull"])
        for number in range(20):
            meta, data = image_to_message(picture, number, {})
            source.send_multipart([header(op="encode", id=number, **meta), data.tobytes()])
        source.send_multipart([header(op="nonsense", id="last")])
        heads = [json.loads(sink.recv_multipart()[0]) for _ in range(21)]
    assert {head["id"] for head in heads} == {*range(20), "last"}
    assert [head["error"] for head in heads if not head["ok"]] == ["operation"]


MALFORMED = [
    ([b"{"], "message", "not JSON"),
    ([b'{"a":' * 50_000], "message", "not JSON"),
    ([b'{"crlsc": ' + b"9" * 9999 + b"}"], "message", "not JSON"),
    ([b"{" + b" " * 300_000 + b"}"], "message", "header of up to"),
    ([b"[]", b""], "message", "not a JSON object"),
    ([header(op="encode")], "message", "takes 2 parts; the message has 1"),
    ([header(op="stats"), b"x"], "message", "takes 1 parts; the message has 2"),
    ([header(op="encode"), *[b"x"] * 50], "message", "header of up to"),
    ([b'{"op": "stats"}'], "version", "None; this service has 1"),
    ([b'{"crlsc": 2, "op": "stats"}'], "version", "version 2"),
    ([header(op="explode"), b"x"], "operation", "explode"),
    ([header(op=["encode"]), b"x"], "operation", "choose encode, decode, stats"),
    (
        [header(op="encode", sequence=0, height=64, width=64), b"x" * 7],
        "image",
        "7 bytes; its metadata says 64 x 64 x 3",
    ),
    ([header(op="encode", sequence=0, height=1, width=1), b"xyz"], "image", "within 32 to 1024"),
    (
        [header(op="encode", sequence=0, height=32, width=32, mode="x" * 9999), b"x" * 3072],
        "image",
        "is unknown; choose digital or analog",
    ),
    (
        [header(op="encode", sequence=0, height=32, width=32, levels="many"), b"x" * 3072],
        "image",
        "levels is 'many'; in mode digital it must be a whole number",
    ),
    ([header(op="encode", sequence=0, height=32, width=32, levels=True), b"x" * 3072], "image", "levels is True"),
    ([header(op="encode", sequence=0, height=32, width=32, levels=2.0), b"x" * 3072], "image", "levels is 2.0"),
    ([header(op="encode", sequence=True, height=32, width=32), b"x" * 3072], "image", "whole number 'sequence'"),
    ([header(op="encode", sequence=0, height=True, width=1024), b"x" * 3072], "image", "whole number 'height'"),
    ([header(op="encode", sequence=-1, height=32, width=32), b"x" * 3072], "image", "3072 bytes"),
    ([header(op="encode"), b"x"], "image", "sequence"),
    ([header(op="decode", semantic_ok=True, detail_lost=False, erasures=[]), b"x" * 99], "frame", "damaged"),
    ([header(op="decode"), b"x"], "frame", "cut short"),
]


@pytest.mark.parametrize(("parts", "code", "match"), MALFORMED)
def test_a_wrong_message_is_one_line_a_counter_and_an_answer(server, client, context, caplog, parts, code, match):
    with caplog.at_level(logging.WARNING):
        answer = json.loads(ask(context, server.address, *parts)[0])
    assert (answer["ok"], answer["error"]) == (False, code)
    assert match in answer["reason"]
    assert [record.getMessage() for record in caplog.records] == [answer["reason"]]
    assert client.stats()["errors"] == {code: 1}


@pytest.mark.parametrize(
    ("part", "code", "match"),
    [
        (b"", "message", "cut short"),
        (b"\x07" * 10_000, "message", "nests more than"),
        (b"\x0a\x00\xff\xff\xff\xff\x01\x00", "message", "cut short"),
        (b"\x07" + b"\x06" * 2, "message", "not a PDU"),
        (pmt_wire.encode(Pair({"sequence": 5}, None)), "message", "u8vector"),
        (pmt_wire.encode(Pair({"sequence": 5}, np.zeros(4, np.float32))), "message", "u8vector"),
        (pmt_wire.encode(Pair({"sequence": 5, "height": 4, "width": 4}, np.zeros(9, np.uint8))), "image", "9 bytes"),
        (pmt_wire.encode(Pair({"sequence": 5}, np.zeros(99, np.uint8))), "frame", "damaged"),
    ],
)
def test_a_wrong_pmt_is_answered_by_a_skip_event(server, client, context, part, code, match):
    event = pmt_wire.decode(ask(context, server.address, part)[0]).car
    assert (event["event"], event["error"]) == ("skip", code)
    assert match in event["reason"]
    assert event.get("sequence") == (5 if b"sequence" in part else None)
    assert client.stats()["errors"] == {code: 1}


def test_soft_bits_and_figures_that_are_none(server, context, codec, picture):
    lost = dataclasses.replace(codec.encode(picture), semantic=None)
    meta, data = frame_to_message(lost, {})
    for name, value in (
        ("semantic_llr", ["x"]),
        ("semantic_llr", {}),
        ("detail_snr_db", "high"),
        ("erasures", [9, 1]),
        ("detail_snr_db", 10**400),
        ("detail_snr_db", float("nan")),
        ("detail_snr_db", True),
        ("semantic_llr", [float("nan")] * 128),
        ("semantic_llr", [10**400]),
    ):
        answer = json.loads(
            ask(context, server.address, header(**{**meta, "op": "decode", name: value}), bytes(data))[0]
        )
        assert (answer["ok"], answer["error"]) == (False, "frame"), answer


def test_options_of_numpy_and_of_any_array_library(client, codec, picture):
    class Foreign:
        """An array of a library that only promises to become NumPy's."""

        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return np.array(self.values, dtype, copy=True if copy is None else copy)

    frame = codec.encode(picture, sequence=7, levels=2)
    assert client.encode(picture, sequence=np.uint16(7), levels=np.int64(2)) == frame
    assert client.encode(Foreign(picture), sequence=np.array(7), levels=np.array(2, np.int8)) == frame
    lost = dataclasses.replace(frame, semantic=None)
    llrs = (2 * np.unpackbits(np.array(codec.bundle.knowledge.codes[17])).astype(np.float32) - 1) * 4
    expected = codec.decode(lost, snr_db=4.5, semantic_llr=llrs)
    for soft in (llrs, llrs.astype(np.float16), llrs.tolist(), Foreign(llrs)):
        for snr_db in (4.5, np.float32(4.5), np.array(4.5), np.float16(4.5)):
            image, meta = client.decode(lost, snr_db=snr_db, semantic_llr=soft, neighbours=np.int32(1))
            assert np.array_equal(image, expected.image)
            assert (meta["repaired"], meta["label"], len(meta["neighbours"])) == (True, expected.label, 1)


def test_options_that_are_none_are_one_line(client, codec, picture):
    frame = codec.encode(picture)
    for snr_db in (float("nan"), np.float32("nan"), True, "high"):
        with pytest.raises(ServiceError, match="detail_snr_db is"):
            client.decode(frame, snr_db=snr_db)
    for levels in (True, 2.0, "many"):
        with pytest.raises(ServiceError, match="levels is"):
            client.encode(picture, levels=levels)
    with pytest.raises(ServiceError, match="cannot be written as JSON"):
        client.encode(picture, levels=object())
    with pytest.raises(ServiceError, match="cannot be written as JSON"):
        client.encode(picture, mode=b"digital")


@pytest.mark.parametrize("delimiter", [[], [b""]], ids=["without delimiter", "with delimiter"])
def test_a_dealer_may_leave_out_the_delimiter_and_send_an_empty_part(server, context, delimiter):
    dealer = connect(context, zmq.DEALER, server.address)
    for number, data in enumerate(([b""], [b"x"], [])):
        dealer.send_multipart([*delimiter, header(op="encode", id=number), *data])
        *before, answer = dealer.recv_multipart()
        told = json.loads(answer)
        assert before == delimiter
        assert (told["ok"], told["id"], told["error"]) == (False, number, "message" if not data else "image")


def test_a_request_over_a_proxy_finds_its_way_back(server, context):
    """A REQ behind a ROUTER and a DEALER has two addresses before the delimiter."""
    front, back = context.socket(zmq.ROUTER), connect(context, zmq.DEALER, server.address)
    front.linger = 0
    port = front.bind_to_random_port("tcp://127.0.0.1")
    requester = connect(context, zmq.REQ, f"tcp://127.0.0.1:{port}")
    requester.send_multipart([header(op="stats")])
    back.send_multipart(front.recv_multipart())
    front.send_multipart(back.recv_multipart())
    assert json.loads(requester.recv_multipart()[0])["protocol"] == 1


def test_what_is_too_large_is_hung_up_on(server, client, context):
    requester = connect(context, zmq.REQ, server.address, 0.5)
    requester.send_multipart([header(op="encode"), bytes(LARGEST_PART + 1)])
    with pytest.raises(zmq.Again):
        requester.recv_multipart()
    assert client.stats()["requests"] == {"stats": 1}


def test_a_full_queue_says_busy(slow_codec, context, picture):
    slow_codec.release.clear()
    slow_codec.entered.clear()
    with (
        CodecServer(slow_codec, ANY, workers=1, queue_size=2, pull=ANY, push=ANY) as server,
        CodecClient(server.address) as client,
    ):
        sink = connect(context, zmq.PULL, server.addresses["push"])
        source = connect(context, zmq.PUSH, server.addresses["pull"])
        meta, data = image_to_message(picture, 0, {})
        request = [header(op="encode", **meta), data.tobytes()]
        source.send_multipart(request)
        assert slow_codec.entered.wait(10)
        for _ in range(10):
            source.send_multipart(request)
        dropped = [json.loads(sink.recv_multipart()[0]) for _ in range(8)]
        assert {head["error"] for head in dropped} == {"busy"}
        with pytest.raises(ServiceError, match="busy: 2 requests wait"):
            client.encode(picture)
        stats = client.stats()
        assert (stats["queued"], stats["queue_size"], stats["dropped"], stats["errors"]) == (2, 2, 8, {"busy": 9})
        slow_codec.release.set()
        assert all(json.loads(sink.recv_multipart()[0])["ok"] for _ in range(3))
        assert client.encode(picture)


def test_who_waits_too_long_is_told(slow_codec, context, picture):
    slow_codec.release.clear()
    slow_codec.entered.clear()
    with CodecServer(slow_codec, ANY, workers=1, timeout_s=0.2) as server:
        dealer = connect(context, zmq.DEALER, server.address)
        meta, data = image_to_message(picture, 0, {})
        for number in range(2):
            dealer.send_multipart([header(op="encode", id=number, **meta), data.tobytes()])
        assert slow_codec.entered.wait(10)
        time.sleep(0.4)
        slow_codec.release.set()
        answers = {head["id"]: head for head in (json.loads(dealer.recv_multipart()[0]) for _ in range(2))}
    assert answers[0]["ok"]
    assert (answers[1]["error"], answers[1]["reason"]) == ("timeout", "waited more than 0.2 s for a worker")


def test_stopping_answers_what_is_under_way_and_refuses_what_waits(slow_codec, context, picture):
    slow_codec.release.clear()
    slow_codec.entered.clear()
    with CodecServer(slow_codec, ANY, workers=1) as server:
        dealer = connect(context, zmq.DEALER, server.address)
        meta, data = image_to_message(picture, 0, {})
        for number in range(3):
            dealer.send_multipart([header(op="encode", id=number, **meta), data.tobytes()])
        assert slow_codec.entered.wait(10)
        while server.stats.requests["encode"] < 3:
            time.sleep(0.01)
        server.stop()
        slow_codec.release.set()
        answers = {head["id"]: head for head in (json.loads(dealer.recv_multipart()[0]) for _ in range(3))}
    assert [answers[number].get("error") for number in range(3)] == [None, "stopping", "stopping"]


def test_a_worker_that_fails_answers_and_goes_on(codec, picture, caplog):
    class Broken(SemanticCodec):
        def decode(self, *_, **__):
            raise RuntimeError("something\nunforeseen")

    with CodecServer(Broken(codec.bundle, codec.runtime), ANY) as server, CodecClient(server.address) as client:
        for _ in range(5):
            with pytest.raises(ServiceError, match="RuntimeError in the service"):
                client.decode(codec.encode(picture))
        assert client.encode(picture)
        assert client.stats()["errors"] == {"internal": 5}
    assert "unforeseen" in caplog.text


def test_several_clients_at_once(server, codec, picture):
    frame, wrong = codec.encode(picture), []

    def work(number):
        with CodecClient(server.address, 20) as client:
            for count in range(10):
                sent = codec.encode(picture, sequence=100 * number + count)
                if client.decode(sent)[1]["sequence"] != sent.header.sequence or client.encode(picture) != frame:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_hundred_peers_that_die(server, client, codec, picture):
    """At the handshake, in half a message, and before their answer."""
    host, port = server.address.removeprefix("tcp://").split(":")
    meta, data = image_to_message(picture, 0, {})
    frame = codec.encode(picture)
    for number in range(100):
        if number % 3 == 0:
            with sockets.create_connection((host, int(port))) as raw:
                raw.sendall([b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x7f", b"\xff"][number // 3 % 3])
        else:
            context = zmq.Context()
            dealer = connect(context, zmq.DEALER, server.address)
            # More follows, but never comes; or a request whose answer nobody awaits.
            dealer.send(header(op="encode", **meta), zmq.SNDMORE if number % 3 == 1 else 0)
            if number % 3 == 2:
                dealer.send_multipart([header(op="encode", **meta), data.tobytes()])
            context.destroy(linger=20)
        if number % 10 == 9:
            assert client.encode(picture) == frame
    assert client.stats()["queued"] == 0


@pytest.mark.parametrize("times", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_a_service_that_dies_many_times(codec, picture, times):
    with CodecServer(codec, ANY) as first:
        address = first.address
    frame = codec.encode(picture)
    with CodecClient(address, 10) as client:
        for _ in range(times):
            with CodecServer(codec, address, workers=1):
                assert client.encode(picture) == frame


def test_a_client_says_what_is_wrong_and_recovers(codec, picture):
    with CodecServer(codec, ANY) as server:
        address = server.address
    with CodecClient(address, 0.1) as client:
        for _ in range(3):
            with pytest.raises(ServiceError, match=r"cannot be reached within 0.1 s; is crlsc-codec serve"):
                client.stats()
        with CodecServer(codec, address), CodecClient(address, 10) as another:
            assert another.encode(picture)
            time.sleep(0.6)
            assert client.stats()


def test_a_silent_service_does_not_answer_and_late_answers_are_not_mixed_up(slow_codec, picture):
    slow_codec.release.clear()
    with CodecServer(slow_codec, ANY) as server, CodecClient(server.address, 0.3) as client:
        with pytest.raises(ServiceError, match="does not answer within"):
            client.encode(picture, sequence=1)
        slow_codec.release.set()
        for number in range(2, 6):
            assert client.encode(picture, sequence=number).header.sequence == number


def test_keys_let_in_who_has_one(codec, picture, tmp_path):
    make_keys(tmp_path / "ours")
    make_keys(tmp_path / "theirs")
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "ours").iterdir()} == {"0o600"}
    # A stranger who knows the service's public key.
    (tmp_path / "theirs/server.key").write_bytes((tmp_path / "ours/server.key").read_bytes())
    ours = tmp_path / "ours"
    with CodecServer(codec, ANY, keys=ours) as server, CodecClient(server.address, keys=ours) as client:
        assert client.encode(picture) == codec.encode(picture)
        for keys in (None, tmp_path / "theirs"):
            stats = client.stats()
            # libzmq tells of it in its own time, and the stranger keeps trying.
            with CodecClient(server.address, 0.4, keys) as other:
                deadline = time.monotonic() + 60
                while client.stats()["turned_away"] == stats["turned_away"] and time.monotonic() < deadline:
                    with pytest.raises(ServiceError, match="with these keys"):
                        other.stats()
            assert client.stats()["turned_away"] > stats["turned_away"]
        assert client.stats()["requests"].keys() == {"encode", "stats"}
        assert client.stats()["requests"]["encode"] == 1


def test_other_machines_need_keys_or_a_word(codec, tmp_path):
    for address in ("tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"):
        with pytest.raises(ServiceError, match="other machines could connect"):
            CodecServer(codec, address)
    with pytest.raises(ServiceError, match="other machines could connect"):
        CodecServer(codec, ANY, pull="tcp://*:*", push=ANY)
    CodecServer(codec, "tcp://0.0.0.0:*", without_keys=True).close()
    CodecServer(codec, f"ipc://{tmp_path}/codec").close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"address": "tcp://127.0.0.1:port"}, "cannot be bound"),
        ({"address": "nonsense", "without_keys": True}, "cannot be bound"),
        ({"keys": "nowhere"}, "nowhere/server.key_secret: cannot be read as a key"),
        ({"workers": 0}, "workers is 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"pull": ANY}, "only one of pull and push is given"),
    ],
)
def test_a_service_that_cannot_be_is_one_line(codec, options, match):
    with pytest.raises(ServiceError, match=match) as caught:
        CodecServer(codec, **{"address": ANY, **options})
    assert "\n" not in str(caught.value)


def test_an_address_that_is_taken(codec, server):
    with pytest.raises(ServiceError, match=r"cannot be bound \(Address already in use"):
        CodecServer(codec, server.address)


def test_private_bases_are_looked_into_and_grow_meanwhile(codec, bundle_folder, tmp_path, picture):
    air_code, vector = codec.bundle.knowledge.air_code, codec.embed(picture)[None]

    def entry(name):
        return [Entry(name, name, "made for this test", "CC0-1.0")]

    base = KnowledgeBase.create(tmp_path / "pkb", air_code, -vector, entry("another"))
    private = SemanticCodec.load(bundle_folder, private=[base.path])
    with CodecServer(private, ANY) as server, CodecClient(server.address) as client:
        frame = client.encode(picture)
        assert client.decode(frame)[1]["neighbours"][0]["base"] == "skb"
        base.add(vector, entry("mine"))
        deadline = time.monotonic() + 10
        while (near := client.decode(frame)[1]["neighbours"][0])["base"] == "skb" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (near["name"], near["base"]) == ("mine", "pkb")


@contextlib.contextmanager
def command_serving(bundle_folder, *options):
    arguments = ["serve", str(bundle_folder), "--address", ANY, *options]
    with subprocess.Popen(
        [sys.executable, "-m", "crlsc_phy.cli.codec", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("requests: tcp://127.0.0.1:"), process.stderr.read()
            process.address = line.split()[1]
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_told_to_stop(bundle_folder, codec, image_folder, tmp_path, capsys, number):
    with command_serving(bundle_folder) as process:
        where = ["--address", process.address]
        assert command.main(["encode", str(image_folder / "owl.jpg"), str(tmp_path / "owl.frame"), *where]) == 0
        assert command.main(["decode", str(tmp_path / "owl.frame"), str(tmp_path / "owl.png"), *where]) == 0
        assert command.main(["stats", "--json", *where]) == 0
        assert command.main(["stats", *where]) == 0
        output = capsys.readouterr().out.splitlines()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    image = load_image(image_folder / "owl.jpg")
    assert (tmp_path / "owl.frame").read_bytes() == codec.encode(image).to_bytes()
    assert np.array_equal(load_image(tmp_path / "owl.png"), codec.decode(codec.encode(image)).image)
    assert json.loads(output[5])["requests"] == {"encode": 1, "decode": 1, "stats": 1}
    assert any(re.fullmatch(r"requests +encode 1, decode 1, stats 2", line) for line in output)


def test_a_service_that_is_killed_and_started_again(bundle_folder, codec, picture):
    with CodecServer(codec, ANY) as first:
        address = first.address
    with CodecClient(address, 20) as client:
        for _ in range(2):
            with command_serving(bundle_folder, "--address", address) as process:
                assert client.encode(picture) == codec.encode(picture)
                process.kill()


def test_a_flood_takes_no_memory_without_bound(bundle_folder, context):
    """900 MiB of images from somebody who reads no answers."""
    with command_serving(bundle_folder, "--queue", "4") as process:

        def most_mib():
            return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024

        before = most_mib()
        dealer = connect(context, zmq.DEALER, process.address)
        head, data = header(op="encode", sequence=0, height=1024, width=1024), bytes(3 << 20)
        for _ in range(300):
            dealer.send_multipart([head, data])
        with CodecClient(process.address) as client:
            while client.stats()["requests"].get("encode", 0) < 200:
                time.sleep(0.05)
        assert most_mib() - before < 500


def test_command_makes_keys_once(tmp_path, capsys):
    assert command.main(["keys", str(tmp_path / "keys"), "--json"]) == 0
    names = [Path(file).name for file in json.loads(capsys.readouterr().out)["files"]]
    assert names == ["server.key", "server.key_secret", "client.key", "client.key_secret"]
    assert command.main(["keys", str(tmp_path / "keys")]) == 2
    assert "the folder has keys already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["serve", "nowhere"], "nowhere"),
        (["serve", "BUNDLE", "--address", "tcp://*:*"], "other machines could connect"),
        (["serve", "BUNDLE", "--workers", "0"], "workers is 0"),
        (["encode", "nowhere.png", "x"], "nowhere.png"),
        (["decode", "nowhere.frame", "x"], "nowhere.frame: cannot be read"),
        (["stats", "--address", "tcp://127.0.0.1:9", "--timeout", "0.1"], "cannot be reached"),
        (["stats", "--address", "nonsense"], "not an address to connect to"),
        (["stats", "--timeout", "-1"], "above 0"),
        (["stats", "--keys", "nowhere"], "cannot be read as a key"),
    ],
)
def test_command_ends_with_one_line_and_status_2(bundle_folder, tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "small.png", np.zeros((4, 4, 3), np.uint8))
    assert command.main([str(bundle_folder) if word == "BUNDLE" else word for word in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("crlsc-codec: ")
    assert match in line


def test_a_client_loads_no_heavy_library():
    program = "import sys, crlsc_phy.net.codec.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "onnxruntime", "aiohttp", "numba", "scipy"} & set(loaded)


def example(language, number=0):
    guide = Path(__file__).resolve().parents[3] / "docs/codec_service.md"
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)[number]


def test_the_example_in_python_runs(server):
    arguments = [sys.executable, "-c", example("python"), server.address]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"330 bytes of frame\n12288 bytes of image: .+ 0\.\d+\n", done.stdout)


def test_the_example_in_c_runs(server, tmp_path):
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler here")
    (tmp_path / "example.c").write_text("#include <zmq.h>\nint main(void) { return !zmq_ctx_new(); }\n")
    build = [compiler, "-Wall", "-Wextra", "-Werror", "example.c", "-o", "example", "-lzmq"]
    if subprocess.run(build, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("libzmq's header is not here (apt install libzmq3-dev)")
    (tmp_path / "example.c").write_text(example("c"))
    subprocess.run(build, cwd=tmp_path, check=True)
    run = [tmp_path / "example", server.address]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    frame, image, header = done.stdout.splitlines()
    assert (frame, image) == ("frame of 330 bytes", "image of 12288 bytes")
    assert json.loads(header)["sequence"] == 7
