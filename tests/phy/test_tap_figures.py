"""A figure shows what the taps of a burst hold, and says what they lack."""

import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.errors import CrlscError, ModemError
from crlsc_phy.phy import BurstModem, tap_figures
from crlsc_phy.phy.tap_figures import plot_taps
from crlsc_phy.phy.taps import Taps, read_burst

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure
from matplotlib.offsetbox import TextArea
from matplotlib.text import Text


def picture_of(folder, burst, tmp_path):
    target = tmp_path / "plot.png"
    assert plot_taps(folder, burst, target) == burst
    with Image.open(target) as image:
        assert image.size == (1600, 1000)
        pixels = np.asarray(image.convert("RGB"))
    assert not list(tmp_path.glob(".*.part"))
    return pixels


def texts_of(folder, burst):
    """What the figure of a burst says, without the cost of rendering it."""
    figure = Figure()
    tap_figures._draw(figure, tap_figures._Shown(read_burst(folder, burst)))
    offset = [box.get_text() for box in figure.findobj(TextArea)]
    return "\n".join([*offset, *(text.get_text() for text in figure.findobj(Text))])


def is_blank(pixels, row, column):
    """Whether the middle of a panel, of two rows and three columns, holds nothing but a line of text."""
    top, left = 90 + row * 455, column * 533
    panel = pixels[top + 80 : top + 380, left + 120 : left + 450]
    return np.mean(np.any(panel < 250, axis=(1, 2))) < 0.15


def test_a_picture_has_a_panel_for_each(tmp_path, make_frame, channel, damaged_header):
    modem = BurstModem(mcs="64qam-2/3", taps=Taps(tmp_path / "taps"))
    link = channel(snr_db=20, cfo=0.01, lead=500, tail=500)
    frame = make_frame(semantic=0, detail=0)
    modem.receive(link(np.concatenate((modem.modulate(make_frame()), damaged_header, modem.modulate(frame)))))
    modem.flush()
    whole = picture_of(tmp_path / "taps", 0, tmp_path)
    assert not any(is_blank(whole, row, column) for row in range(2) for column in range(3))
    assert "air code read" in texts_of(tmp_path / "taps", 0)
    lost = texts_of(tmp_path / "taps", 1)
    assert "header lost" in lost
    assert "not recorded: the header was not read" in lost
    assert "not recorded: the burst has none" in texts_of(tmp_path / "taps", 2)


def test_a_picture_of_what_is_left(tmp_path):
    taps = Taps(tmp_path / "taps")
    taps.begin(5)
    taps.end()
    taps.begin(6)
    # The receiver ends here, with half of the arrays written.
    taps.write("channel", np.ones((40, 52), np.complex64))
    taps.write("llr", np.array([np.nan, np.inf, 0, 1], np.float32))
    taps.write("symbols", np.ones((3, 48), np.complex64))
    blank = picture_of(tmp_path / "taps", 0, tmp_path)
    assert all(is_blank(blank, 0, column) for column in range(3))
    assert "not recorded: the receiver ended during this burst" in texts_of(tmp_path / "taps", 1)


def test_broken_values_do_not_stop_the_drawing(tmp_path):
    taps = Taps(tmp_path / "taps")
    taps.begin(0)
    broken = np.full((3, 48), complex(np.nan, np.nan), np.complex64)
    broken[0, 0] = np.inf
    for name, values in (
        ("symbols", broken),
        ("channel", broken[:1]),
        ("metric", broken[0]),
        ("phase", broken[0].real),
    ):
        taps.write(name, values)
    taps.end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture_of(tmp_path / "taps", 0, tmp_path)


def test_arrays_of_another_shape_are_refused(tmp_path):
    for values in (np.ones((2, 3, 4)), np.array(["a"])):
        taps = Taps(tmp_path)
        taps.begin(0)
        taps.write("symbols", values)
        taps.end()
        with pytest.raises(ModemError, match=r"burst-000000: symbols\.npy is"):
            plot_taps(tmp_path, None, tmp_path / "plot.png")


def test_a_picture_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    taps = Taps(tmp_path)
    taps.begin(0)
    taps.end()
    with pytest.raises(CrlscError, match="is a folder"):
        plot_taps(tmp_path, None, tmp_path)
    with pytest.raises(CrlscError, match="cannot be written"):
        plot_taps(tmp_path, None, tmp_path / "nowhere" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CrlscError, match="need matplotlib"):
        plot_taps(tmp_path, None, tmp_path / "plot.png")
