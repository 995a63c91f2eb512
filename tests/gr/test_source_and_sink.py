import itertools
import json
import time

import numpy as np
import pmt
import pytest
from gr_helpers import Collector, finish, picture, post

from crlsc_phy.images import load_image
from crlsc_phy.quality.metrics import psnr_db
from gr_blocks import pdu
from gr_blocks.image_sink import image_sink
from gr_blocks.image_source import image_source


def wire(top, source):
    collector = Collector()
    top.msg_connect((source, "images"), (collector, "in"))
    top.start()
    return collector


def kinds(messages):
    return [event["event"] if (event := pdu.read_event(message)) else "image" for message in messages]


def test_source_sends_readable_images_in_order_and_names_the_others(top, folder):
    source = image_source(str(folder), in_flight=0)
    messages = wire(top, source).wait_for(4)
    assert kinds(messages) == ["image"] * 3 + ["end"]
    received = [pdu.image_from_pdu(message) for message in messages[:3]]
    assert [meta["name"] for _, meta in received] == ["a", "b", "d"]
    assert [meta["labels"] for _, meta in received] == [[], ["wave", "sea"], []]
    assert [meta["sequence"] for _, meta in received] == [0, 1, 2]
    assert all(np.array_equal(image, picture(index)) for index, (image, _) in enumerate(received))
    assert source.stats() == {"images": 3, "errors": 1}
    assert "c.png" in source.messages[0]


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("name", ["images/c.png", "nowhere", "empty"])
def test_source_without_a_readable_image_ends(top, folder, name, repeat):
    (folder.parent / "empty").mkdir()
    source = image_source(str(folder.parent / name), repeat=repeat)
    assert kinds(wire(top, source).wait_for(1)) == ["end"]
    assert source.errors == 1


@pytest.mark.parametrize(("max_side", "side"), [(0, 40), (20, 20)])
def test_source_reduces_what_is_too_large(top, folder, max_side, side):
    messages = wire(top, image_source(str(folder), in_flight=0, max_side=max_side)).wait_for(4)
    assert max(pdu.image_from_pdu(messages[0])[0].shape) == side


def test_source_repeats_at_its_rate(top, folder):
    source = image_source(str(folder), repeat=True, rate=50, in_flight=0)
    began = time.monotonic()
    messages = wire(top, source).wait_for(8)
    assert time.monotonic() - began >= 7 / 50
    assert [pdu.image_from_pdu(message)[1]["name"] for message in messages[:8]] == list("abdabdab")
    assert [pdu.sequence_of(message) for message in messages[:8]] == list(range(8))


def test_source_waits_for_feedback_and_ends_the_flowgraph_when_the_end_comes_back(top, folder):
    source = image_source(str(folder), in_flight=2)
    collector = wire(top, source)
    collector.wait_for(2)
    time.sleep(0.2)
    assert len(collector.collected) == 2
    post(source, "feedback", pdu.burst_event(0, 100, 10))
    post(source, "feedback", pdu.skip_event(1, "because"))
    assert kinds(collector.wait_for(4)) == ["image"] * 3 + ["end"]
    post(source, "feedback", pdu.end_event())
    finish(top, 10)


def test_source_counts_feedback_that_is_no_event(top, folder):
    source = image_source(str(folder))
    wire(top, source).wait_for(4)
    post(source, "feedback", pdu.image_to_pdu(picture(1), 1))
    post(source, "feedback", pdu.end_event())
    finish(top, 10)
    assert source.errors == 2  # c.png and the message


def noisy(image, seed):
    return np.clip(image + np.random.default_rng(seed).normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def test_sink_measures_what_comes_and_misses_what_does_not(top, tmp_path):
    sink = image_sink(str(tmp_path / "out"), gallery=3)
    feedback = Collector()
    top.msg_connect((sink, "feedback"), (feedback, "in"))
    originals = [picture(index, 48, 64) for index in range(4)]
    copies = [noisy(image, index) for index, image in enumerate(originals)]
    for index, image in enumerate(originals):
        post(sink, "sent", pdu.image_to_pdu(image, index, name=f"no {index}", labels=["wave"]))
    near = {"label": "wave", "name": "v/wave", "score": 0.9}
    meta = {"label": "wave", "confidence": 0.5, "snr_db": 12.0, "semantic_ok": True, "neighbours": [near, 5, {"x": 1}]}
    post(sink, "images", pdu.image_to_pdu(copies[0], 0, **meta))
    post(sink, "images", pdu.burst_event(0, 4608, 300))
    post(sink, "images", pdu.burst_event(1, 4608, 300))
    post(sink, "images", pdu.burst_event(2, 4608, 300))
    # A receiver that looks ahead hands a frame out behind the event of its burst.
    post(sink, "images", pdu.image_to_pdu(copies[2], 2, label="lake"))
    post(sink, "images", pdu.skip_event(3, "another knowledge base"))
    post(sink, "images", pdu.end_event())
    top.start()
    assert kinds(feedback.wait_for(5)) == ["burst"] * 3 + ["skip", "end"]
    top.stop()
    finish(top, 10)

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images_sent"], metrics["images_received"], metrics["frames_lost"]) == (4, 2, 2)
    assert metrics["psnr_db"] == pytest.approx([psnr_db(originals[i], copies[i]) for i in (0, 2)])
    assert metrics["label_correct"] == [True, False]
    assert metrics["snr_db_estimated"] == 12
    assert metrics["cbr"] == pytest.approx(4608 / (48 * 64 * 3))
    assert metrics["air_bytes_mean"] == 300
    assert metrics["rows"][0]["neighbours"] == [near]
    assert [row["reason"] for row in metrics["rows"]] == ["", "", "", "another knowledge base"]
    assert sink.stats() == {"images": 2, "lost": 2, "errors": 0, "dropped": 0}
    assert np.array_equal(load_image(tmp_path / "out" / "received" / "00002-no_2.png"), copies[2])
    assert (tmp_path / "out" / "gallery.png").is_file()


def run(top, sink, done):
    """Run a sink whose messages have been posted until ``done``."""
    feedback = Collector()
    top.msg_connect((sink, "feedback"), (feedback, "in"))
    top.start()
    deadline = time.monotonic() + 10
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    top.stop()
    finish(top, 10)
    assert done()


def test_sink_without_originals_writes_all_it_gets(top, tmp_path):
    sink = image_sink(str(tmp_path))
    for index in (5, 6):
        post(sink, "images", pdu.image_to_pdu(picture(index), 5))
    run(top, sink, lambda: sink.images == 2)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images_received"] == 2
    assert metrics["psnr_db"] == [None, None]


def test_sink_without_originals_keeps_what_it_hears_of_an_image_before_it_comes(top, tmp_path):
    sink = image_sink(str(tmp_path))
    for index in range(3):
        post(sink, "images", pdu.burst_event(index, 1000 + index, 100 + index))
    for index in range(3):
        post(sink, "images", pdu.image_to_pdu(picture(index), index))
    run(top, sink, lambda: sink.images == 3)
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [(row["samples"], row["air_bytes"]) for row in rows] == [(1000, 100), (1001, 101), (1002, 102)]


def test_sink_survives_bad_messages(top, tmp_path):
    sink = image_sink(str(tmp_path))
    for port in ("sent", "images"):
        post(sink, port, pmt.intern("nonsense"))
        post(sink, port, pdu.image_to_pdu(picture(1), 1, labels=7, neighbours="near", label=3))
    post(sink, "images", pdu.image_to_pdu(picture(1, 50, 50), 1))
    run(top, sink, lambda: sink.images == 2)
    assert sink.errors == 2
    assert [record.label for record in sink.records] == [None, None]


def test_sink_tells_of_a_folder_that_it_cannot_write(top, tmp_path):
    (tmp_path / "file").write_text("in the way")
    sink = image_sink(str(tmp_path / "file"))
    post(sink, "images", pdu.image_to_pdu(picture(1), 1))
    run(top, sink, lambda: sink.images == 1)
    assert sink.errors == 2
    assert "cannot write the results" in sink.messages[-1]


def test_sink_keeps_its_queue_bounded(top, tmp_path):
    sink = image_sink(str(tmp_path), queue_size=3)
    for index, port in itertools.product(range(10), ("sent", "images")):
        post(sink, port, pdu.image_to_pdu(picture(index), index))
    run(top, sink, lambda: sink.images + sink.dropped == 10)
    assert sink.dropped == 7
    assert [record.sequence for record in sink.records if record.received] == [7, 8, 9]
