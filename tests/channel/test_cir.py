"""Files of channel impulse responses: recorded, replayed, brought by others, damaged."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from test_stream import noise

from crlsc_phy.channel import Cir, StreamChannel
from crlsc_phy.errors import ChannelError


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("model", ["tdl-a", "cdl-c", "rician"])
def test_what_was_recorded_replays_to_the_same_output(tmp_path, model, suffix):
    file = tmp_path / f"channel{suffix}"
    first = StreamChannel(model, speed=20.0, rx=2, seed=3)
    samples = noise(100_000)
    out = first(samples)
    first.record(file, 0, 100_000)
    again = StreamChannel("replay", cir=str(file), rx=2)
    assert again.latency == first.latency
    replayed = again(samples)
    error = np.mean(np.abs(replayed - out) ** 2) / np.mean(np.abs(out) ** 2)
    assert 10 * np.log10(max(error, 1e-30)) < -120


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("model", ["rayleigh-block", "rician-block"])
def test_a_recording_of_block_fading_stands_still_in_its_blocks(tmp_path, model, suffix):
    file = tmp_path / f"channel{suffix}"
    first = StreamChannel(model, block=777, rx=2, seed=4)
    samples = noise(20_000)
    out = first(samples)
    first.record(file, 0, len(samples))
    assert Cir.load(file).steps
    again = StreamChannel("replay", cir=str(file), rx=2)
    assert np.array_equal(again(samples), out)
    # What was replayed can be recorded again.
    again.record(tmp_path / f"again{suffix}", 777, len(samples))
    assert np.array_equal(Cir.load(tmp_path / f"again{suffix}").gains, Cir.load(file).gains[1:])


def test_blocks_begin_at_their_samples_at_another_sample_rate_too(tmp_path):
    """A file with jumps every 777 us at 1.1 MS/s: every 854.7 samples."""
    StreamChannel("rayleigh-block", block=777, seed=4).record(tmp_path / "c.npz", 0, 20_000)
    gains = Cir.load(tmp_path / "c.npz").gains[:, 0, 0, 0]
    channel = StreamChannel("replay", cir=str(tmp_path / "c.npz"), sample_rate=1.1e6)
    out = channel(np.ones(10_000, np.complex64))
    assert np.allclose(out, gains[np.floor(np.arange(10_000) / 854.7).astype(int)], atol=1e-6)


@pytest.mark.parametrize(
    ("end", "order"), [("loop", [0, 1, 2, 0, 1]), ("mirror", [0, 1, 2, 1, 0]), ("hold", [0, 1, 2, 2, 2])]
)
def test_blocks_stand_behind_the_end_too(tmp_path, end, order):
    Cir(np.arange(3, dtype=complex).reshape(-1, 1, 1, 1), np.zeros(1), 100e-6, steps=True).save(tmp_path / "c.npz")
    out = StreamChannel("replay", cir=str(tmp_path / "c.npz"), cir_end=end)(np.ones(500, np.complex64))
    assert np.array_equal(out, np.repeat(order, 100))


def test_files_of_other_models_are_those_of_earlier_releases(tmp_path):
    StreamChannel("tdl-a").record(tmp_path / "lines.npz", 0, 10_000)
    StreamChannel("rayleigh-block").record(tmp_path / "blocks.npz", 0, 20_000)
    with np.load(tmp_path / "lines.npz") as lines, np.load(tmp_path / "blocks.npz") as blocks:
        assert set(lines) == {"gains", "delays", "time_step"}
        assert (bool(blocks["steps"]), int(blocks["version"])) == (True, 2)


def test_gains_at_even_spaces_are_those_at_any():
    channel = StreamChannel("tdl-d", speed=20.0, rx=2, seed=3)
    places = 1e9 + 333.25 * np.arange(1000)
    one_by_one = np.concatenate([channel.gains_at(places[i : i + 10])[0] for i in range(0, 1000, 10)])
    assert np.abs(channel.gains_at(places)[0] - one_by_one).max() < 1e-6
    assert np.abs(channel.gains_at(places[::-1])[0] - one_by_one[::-1]).max() < 1e-6


def test_a_piece_from_the_middle(tmp_path):
    channel = StreamChannel("tdl-b", speed=20.0, seed=3)
    hop = channel._segments[0].process.hop
    channel.record(tmp_path / "piece.npz", 100 * hop, 150 * hop)
    cir = Cir.load(tmp_path / "piece.npz")
    assert len(cir.gains) == 51
    assert np.allclose(cir.gains, channel.gains_at(np.arange(100, 151) * hop)[0])


@pytest.mark.parametrize(
    ("end", "expected"),
    [("loop", [0, 1, 2, 1, 0, 1]), ("mirror", [0, 1, 2, 1, 0, 1]), ("hold", [0, 1, 2, 2, 2, 2])],
)
def test_what_follows_the_end(tmp_path, end, expected):
    gains = np.array([0, 1, 2, 1] if end == "loop" else [0, 1, 2], complex).reshape(-1, 1, 1, 1)
    Cir(gains, np.zeros(1), 100e-6).save(tmp_path / "c.npz")
    channel = StreamChannel("replay", cir=str(tmp_path / "c.npz"), cir_end=end)
    out = channel(np.ones(600, np.complex64))
    assert np.allclose(out[::100], expected, atol=1e-6)
    assert np.allclose(out[50], 0.5, atol=1e-6)


def test_a_time_step_between_samples(tmp_path):
    """A ray tracer's times need not fall on samples: 7.25 of them here."""
    turn = np.exp(2j * np.pi * 0.001 * np.arange(2000) * 7.25).reshape(-1, 1, 1, 1)
    Cir(turn, np.zeros(1), 7.25e-6).save(tmp_path / "c.npz")
    out = StreamChannel("replay", cir=str(tmp_path / "c.npz"))(np.ones(10_000, np.complex64))
    assert np.abs(out - np.exp(2j * np.pi * 0.001 * np.arange(10_000))).max() < 2e-3


def test_a_single_response_stands(tmp_path):
    Cir(np.full((1, 1, 1, 1), 0.5j), np.array([2e-6]), 1.0).save(tmp_path / "c.npz")
    out = StreamChannel("replay", cir=str(tmp_path / "c.npz"))(np.ones(10, np.complex64))
    assert np.allclose(out, [0, 0, *[0.5j] * 8])


def damaged(tmp_path, **changes):
    fields = {"gains": np.ones((2, 1, 1, 1), complex), "delays": np.zeros(1), "time_step": 1e-3} | changes
    np.savez(tmp_path / "c.npz", **{name: value for name, value in fields.items() if value is not None})
    return tmp_path / "c.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gains": np.full((2, 1, 1, 1), np.nan)}, "NaN or infinite"),
        ({"delays": np.array([np.inf])}, "NaN or infinite"),
        ({"delays": np.array([-1e-9])}, "delays of 0 and more"),
        ({"delays": np.zeros(2)}, r"must be \[T, rx, tx, P\]"),
        ({"gains": np.ones(3)}, r"must be \[T, rx, tx, P\]"),
        ({"gains": np.ones((0, 1, 1, 1))}, r"must be \[T, rx, tx, P\]"),
        ({"time_step": 0.0}, "time step above 0"),
        ({"time_step": None}, "needs gains, delays, time_step"),
        ({"gains": np.array(["text"])}, "not a CIR file"),
        ({"gains": np.ones((2, 2, 1, 1))}, "has 2 receive and 1 transmit antennas"),
        ({"delays": np.array([1.0])}, "beyond 4096 taps"),
        ({"version": 3}, "has version 3, newer than 2; update crlsc-phy"),
        ({"gains": np.full((2, 1, 1, 1), 1e300)}, "gains above 1e"),
        ({"time_step": 1e-300}, "has a time step of 1e-294 samples"),
        ({"time_step": 1e300}, "has a time step of 1e.306 samples"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, changes, message):
    with pytest.raises(ChannelError, match=message):
        StreamChannel("replay", cir=str(damaged(tmp_path, **changes)))


def test_files_that_cannot_be_read_or_written(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "pickle.npz", gains=np.array([{}], object), delays=0, time_step=1)
    for name in ("nowhere.npz", "text.npz", "pickle.npz", "nowhere.h5"):
        with pytest.raises(ChannelError, match=name):
            Cir.load(tmp_path / name)
    with pytest.raises(ChannelError, match="cannot be written"):
        StreamChannel("tdl-a").record(tmp_path / "no/folder.npz", 0, 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pickle.npz", "text.npz"]


def test_a_file_that_claims_terabytes_takes_no_memory(tmp_path):
    with zipfile.ZipFile(damaged(tmp_path, gains=None), "a") as archive, archive.open("gains.npy", "w") as stream:
        shape = (1 << 40, 1, 1, 1)
        np.lib.format.write_array_header_1_0(stream, {"descr": "<c16", "fortran_order": False, "shape": shape})
    with pytest.raises(ChannelError, match=r"c\.npz: not a CIR file"):
        Cir.load(tmp_path / "c.npz")


def test_a_long_recording_needs_no_more_memory_than_its_file(tmp_path):
    """Its waves at all knots at once would be 2 GB."""
    channel = StreamChannel("tdl-a", speed=30.0)
    tracemalloc.start()
    channel.record(tmp_path / "long.npz", 0, 6_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * (tmp_path / "long.npz").stat().st_size
