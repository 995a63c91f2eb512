"""Taps keep what the receiver saw, never stop it, and are read back or refused."""

import json
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import BurstModem, Numerology
from crlsc_phy.phy.taps import Taps, read_burst, read_taps

ARRAYS = {"channel", "llr", "metric", "noise", "phase", "semantic_llr", "slope", "symbols"}


@contextmanager
def files_up_to(size):
    """No file can grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_is_read(tmp_path):
    taps = Taps(tmp_path / "new" / "folder")
    arrays = {
        "channel": np.arange(6, dtype=np.complex64).reshape(2, 3),
        "noise": np.asarray(np.float32(0.25)),
        "llr": np.empty(0, np.float32),
    }
    for number in range(3):
        taps.begin(1000 * number)
        for name, values in arrays.items():
            taps.write(name, values)
        taps.note(snr_db=np.float64(7.5), header_ok=np.True_, pilots=(1, np.int64(-2)), mcs="qpsk-1/2")
        taps.note(snr_db=float("nan"), nested={"a": np.arange(2)})
        taps.end()
    assert (taps.recorded, taps.skipped, taps.errors, taps.first_error) == (3, 0, 0, "")
    assert not list(tmp_path.rglob("*.part"))
    read = read_taps(tmp_path / "new" / "folder")
    assert [burst.number for burst in read] == [0, 1, 2]
    burst = read[2]
    assert burst == read_burst(tmp_path / "new" / "folder") == read_burst(tmp_path / "new" / "folder", 2)
    assert burst.notes == {
        "start": 2000,
        "snr_db": None,
        "header_ok": True,
        "pilots": [1, -2],
        "mcs": "qpsk-1/2",
        "nested": {"a": [0, 1]},
    }
    assert burst.names == ("channel", "llr", "noise")
    for name, values in arrays.items():
        loaded = burst.array(name)
        assert loaded.dtype == values.dtype
        assert np.array_equal(loaded, values)
    assert isinstance(burst.array("channel"), np.memmap)
    assert not burst.array("channel").flags.writeable
    assert burst.array("phase") is None


def test_no_more_than_most_bursts_are_kept(tmp_path):
    taps = Taps(tmp_path, most=2)
    for number in range(5):
        # A burst that is not ended is when the next one begins.
        taps.begin(number)
        taps.write("llr", np.ones(3, np.float32))
    taps.end()
    taps.write("llr", np.ones(3, np.float32))
    taps.note(late=True)
    taps.end()
    assert (taps.recorded, taps.skipped, taps.errors) == (2, 3, 0)
    assert [burst.notes for burst in read_taps(tmp_path)] == [{"start": 0}, {"start": 1}]
    with pytest.raises(ModemError, match="most is 0"):
        Taps(tmp_path, most=0)


def test_an_earlier_run_is_replaced_and_other_files_stay(tmp_path):
    for count in (3, 1):
        taps = Taps(tmp_path)
        for number in range(count):
            taps.begin(number)
            taps.write("llr", np.ones(3, np.float32))
        taps.end()
        if count == 3:
            (tmp_path / "burst-000001" / "notes.txt").write_text("mine")
            (tmp_path / "burst-000002.png").write_text("a picture")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["burst-000000", "burst-000001", "burst-000002.png"]
    assert [path.name for path in (tmp_path / "burst-000001").iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ModemError, match="taps cannot be written"):
            Taps(folder)
    with files_up_to(1000), pytest.raises(ModemError, match=r"full: taps cannot be written \(File too large\)"):
        Taps(tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())


def test_what_cannot_be_written_later_is_counted(tmp_path):
    taps = Taps(tmp_path)
    taps.begin(0)
    with files_up_to(1000):
        taps.write("symbols", np.ones(1000, np.complex64))
        taps.write("noise", np.ones(10, np.float32))
    taps.write("objects", np.array([object()]))
    taps.end()
    assert taps.errors == 2
    assert taps.first_error.startswith("burst-000000/symbols.npy: ")
    assert read_burst(tmp_path).names == ("noise",)
    assert not list(tmp_path.rglob("*.part"))
    shutil.rmtree(tmp_path)
    taps.begin(1)
    taps.write("noise", np.ones(10, np.float32))
    taps.end()
    assert taps.errors == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("info.json", b"{"),
        ("info.json", b"[1]"),
        ("info.json", b"\xff\xfe"),
        ("llr.npy", b""),
        ("llr.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr'"),
        ("llr.npy", b"no array at all"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    taps = Taps(tmp_path)
    for number in range(2):
        taps.begin(number)
        taps.write("llr", np.ones(100, np.float32))
    taps.end()
    (tmp_path / "burst-000000" / name).write_bytes(content)
    with pytest.raises(ModemError, match=f"burst-000000/{name}: .*") as caught:
        read_taps(tmp_path)[0].array("llr")
    assert "\n" not in str(caught.value)
    # A burst that is not damaged can still be looked at.
    assert len(read_burst(tmp_path, 1).array("llr")) == 100


def test_a_cut_array_and_a_pickle_are_refused(tmp_path):
    taps = Taps(tmp_path)
    taps.begin(0)
    taps.write("llr", np.ones(100, np.float32))
    taps.end()
    path = tmp_path / "burst-000000" / "llr.npy"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModemError, match=r"llr\.npy: is damaged"):
        read_burst(tmp_path).array("llr")
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ModemError, match=r"llr\.npy: is damaged"):
        read_burst(tmp_path).array("llr")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ModemError, match="nowhere: no such folder"):
        read_taps(tmp_path / "nowhere")
    with pytest.raises(ModemError, match="holds no taps"):
        read_burst(tmp_path)
    taps = Taps(tmp_path)
    taps.begin(0)
    with pytest.raises(ModemError, match="holds no burst 7; there are 1, 0 to 0"):
        read_burst(tmp_path, 7)
    # The receiver was killed before it could write the notes.
    assert read_burst(tmp_path, 0).notes == {}


def test_the_receiver_writes_them(tmp_path, make_frame, channel, damaged_header):
    taps = Taps(tmp_path, most=2)
    modem = BurstModem(mcs="16qam-1/2", taps=taps)
    frame = make_frame()
    iq = np.concatenate((damaged_header, modem.modulate(frame), modem.modulate(frame)))
    bursts = modem.receive(channel(snr_db=15, cfo=0.01, lead=500, tail=500)(iq)) + modem.flush()
    assert [burst.frame for burst in bursts] == [frame, frame]
    assert (taps.recorded, taps.skipped, taps.errors) == (2, 1, 0)
    lost, whole = read_taps(tmp_path)
    assert lost.notes["header_ok"] is False
    assert "llr" not in lost.names
    assert "symbols" in lost.names
    notes, burst = whole.notes, bursts[0]
    assert set(whole.names) >= ARRAYS
    assert (notes["start"], notes["mcs"]) == (burst.start, "16qam-1/2")
    assert (notes["header_ok"], notes["semantic_ok"], notes["segments"], notes["segment_failures"]) == (
        True,
        True,
        2,
        0,
    )
    assert Numerology(**notes["numerology"]) == modem.numerology
    for name in ("snr_db", "cfo_hz", "evm_db"):
        assert notes[name] == pytest.approx(getattr(burst, name))
    assert np.array_equal(whole.array("llr"), burst.llr)
    assert np.array_equal(whole.array("semantic_llr"), burst.semantic_llr)
    symbols = whole.array("symbols")
    assert symbols.shape[1] == Numerology().data_carriers
    assert whole.array("channel").shape in ((1, 52), (len(symbols), 52))
    assert len(whole.array("phase")) == len(whole.array("slope")) == len(symbols)
    metric = np.abs(whole.array("metric"))
    assert abs(notes["metric_start"] + np.argmax(metric) - burst.start) <= 16


def test_they_do_not_change_what_is_received(tmp_path, make_frame, channel):
    iq = channel(snr_db=2, cfo=0.01, lead=500)(BurstModem().modulate(make_frame()))
    (plain,) = BurstModem().receive(iq)
    (tapped,) = BurstModem(taps=Taps(tmp_path)).receive(iq)
    assert tapped.frame == plain.frame
    assert np.array_equal(tapped.llr, plain.llr)


def test_what_the_caller_fills_again_was_copied(tmp_path):
    taps = Taps(tmp_path)
    taps.begin(np.int64(0))
    values, pair = np.arange(3), [1, 2]
    taps.note(values=values, pair=pair)
    taps.write("llr", values)
    values[:] = 9
    pair.clear()
    taps.end()
    burst = read_burst(tmp_path)
    assert (burst.notes["values"], burst.notes["pair"]) == ([0, 1, 2], [1, 2])
    assert burst.array("llr").tolist() == [0, 1, 2]


def test_any_array_is_taken_and_what_is_none_does_not_stop_the_receiver(tmp_path):
    torch = pytest.importorskip("torch")
    taps = Taps(tmp_path)
    taps.begin(0)
    taps.write("llr", torch.ones(2))
    taps.write("phase", [1.0, 2.0])
    taps.note(snr_db=torch.tensor(2.5), cfo_hz=np.array(1.5))
    assert taps.errors == 0
    taps.write("symbols", torch.ones(2, requires_grad=True))
    loop = []
    loop.append(loop)
    taps.note(loop=loop)
    taps.end()
    assert taps.errors == 2
    burst = read_burst(tmp_path)
    assert burst.array("llr").tolist() == [1, 1]
    assert burst.array("phase").tolist() == [1, 2]
    assert (burst.notes["snr_db"], burst.notes["cfo_hz"]) == (2.5, 1.5)


def test_notes_are_strict_json(tmp_path):
    taps = Taps(tmp_path)
    taps.begin(0)
    taps.note(snr_db=float("inf"), thing=object())
    taps.end()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    notes = json.loads((tmp_path / "burst-000000" / "info.json").read_text(), parse_constant=refuse)
    assert notes["snr_db"] is None
    assert isinstance(notes["thing"], str)
