"""Writing aside: complete files only, under any name, by several at once."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest

from crlsc_phy.channel.cir import Cir
from crlsc_phy.cli.codec import _write
from crlsc_phy.figure import drawing
from crlsc_phy.files import placed, write_array, write_text
from crlsc_phy.images import save_png
from crlsc_phy.phy.recording import RecordingWriter

PIXELS = np.zeros((8, 8, 3), np.uint8)


def record(path):
    with RecordingWriter(path) as file:
        file.write(np.ones(8, np.complex64))


def draw(path):
    pytest.importorskip("matplotlib")
    with drawing(path, width=200, height=100) as figure:
        figure.subplots()


WRITERS = {
    "text": (".txt", lambda path: write_text(path, "text")),
    "durable": (".txt", lambda path: write_text(path, "text", durable=True)),
    "array": (".npy", lambda path: write_array(path, np.arange(5))),
    "png": (".png", lambda path: save_png(path, PIXELS)),
    "cir": (".npz", lambda path: Cir(np.ones((1, 1, 1, 1), complex), np.zeros(1), 1e-3).save(path)),
    "frame": (".bin", lambda path: _write(path, b"frame")),
    "recording": (".cf32", record),
    "figure": (".png", draw),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("character", ["a", "ü", "漢"])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, writer, character):
    suffix, write = WRITERS[writer]
    room = 255 - len(suffix)
    path = tmp_path / (character * (room // len(character.encode())) + suffix)
    write(path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size


def test_a_name_need_not_be_utf8(tmp_path):
    path = tmp_path / (b"caf\xe9" * 60).decode("utf-8", "surrogateescape")
    write_text(path, "text")
    assert path.read_text() == "text"


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), placed(path) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_several_may_write_the_same_name_at_once(tmp_path):
    path = tmp_path / "a.txt"
    both = threading.Barrier(2)
    problems = []

    def write(text):
        try:
            with placed(path) as aside:
                both.wait(10)
                aside.write_text(text * 1000)
                both.wait(10)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() in ("a" * 1000, "b" * 1000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_named_as_such(tmp_path, monkeypatch):
    # np.save would say only how many items it wrote.
    def full(_, mode):
        return open("/dev/full", mode)  # noqa: PTH123

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_array(tmp_path / "a.npy", np.zeros(1 << 16))
    assert caught.value.errno == errno.ENOSPC
