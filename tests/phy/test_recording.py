"""Recordings are complete files of any complex samples, read back in pieces."""

from pathlib import Path

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import recording
from crlsc_phy.phy.recording import RecordingWriter, chunks, open_recording

SAMPLES = (np.arange(1000) + 1j).astype(np.complex64)


def write(path, *parts):
    with RecordingWriter(path) as file:
        for part in parts:
            file.write(part)
    return file.count


@pytest.mark.parametrize("suffix", ["cf32", "npy"])
def test_what_is_written_is_read_in_pieces(tmp_path, suffix, monkeypatch):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"air.{suffix}"
    reused = SAMPLES[:100].copy()
    with RecordingWriter(path) as file:
        file.write(reused)
        reused[:] = 0
        file.write(SAMPLES[100:200].tolist())
        file.write(SAMPLES[200:300].astype(np.complex128))
        file.write(torch.from_numpy(SAMPLES[300:]))
        assert not path.exists()
    assert file.count == len(SAMPLES)
    monkeypatch.setattr(recording, "CHUNK", 300)
    read = list(chunks(open_recording(path)))
    assert [len(part) for part in read] == [300, 300, 300, 100]
    assert all(part.dtype == np.complex64 for part in read)
    assert np.array_equal(np.concatenate(read), SAMPLES)
    whole = np.load(path) if suffix == "npy" else np.fromfile(path, "<c8")
    assert np.array_equal(whole, SAMPLES)


@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16"])
def test_a_numpy_file_may_have_any_complex_type(tmp_path, dtype):
    np.save(tmp_path / "air.npy", SAMPLES.astype(dtype))
    assert np.array_equal(np.concatenate(list(chunks(open_recording(tmp_path / "air.npy")))), SAMPLES)


@pytest.mark.parametrize("suffix", ["cf32", "npy"])
def test_an_empty_recording(tmp_path, suffix):
    assert write(tmp_path / f"air.{suffix}") == 0
    assert list(chunks(open_recording(tmp_path / f"air.{suffix}"))) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "air.cf32"
    write(path, SAMPLES)
    with pytest.raises(KeyboardInterrupt), RecordingWriter(path) as file:
        file.write(SAMPLES[:10])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(open_recording(path), SAMPLES)


def test_an_error_of_the_caller_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="of the caller"), RecordingWriter(tmp_path / "air.cf32"):
        raise OSError("of the caller")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("suffix", ["cf32", "npy"])
def test_a_full_disk_is_one_line(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(Path, "open", lambda _, mode: open("/dev/full", mode))  # noqa: PTH123, SIM115
    with pytest.raises(ModemError, match=rf"air\.{suffix}: cannot be written \(No space left on device\)"):
        write(tmp_path / f"air.{suffix}", SAMPLES)
    assert list(tmp_path.iterdir()) == []
