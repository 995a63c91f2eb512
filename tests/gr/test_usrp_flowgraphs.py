"""The three flowgraphs for a USRP: compiled by GRC, run over stand-ins for UHD's blocks, or over a USRP."""

import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gnuradio import uhd
from usrp_stand_in import Air, UsrpSink, UsrpSource

from crlsc_phy.cli import usrp
from crlsc_phy.images import load_image
from gr_blocks.flowgraph import load_flowgraph

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {
    "tx": "device samp-rate freq tx-gain tx-antenna amplitude images bundle runtime mode mcs papr-db",
    "rx": "device samp-rate freq rx-gain rx-antenna bundle runtime out taps idle count",
}
PARAMETERS["loop"] = f"{PARAMETERS['tx']} rx-gain rx-antenna out taps idle"


@pytest.fixture
def air(monkeypatch) -> Air:
    """UHD with a device that is only a memory."""
    air = Air()
    monkeypatch.setattr(uhd, "find", lambda arguments: [arguments])
    monkeypatch.setattr(uhd, "usrp_sink", partial(UsrpSink, air))
    monkeypatch.setattr(uhd, "usrp_source", partial(UsrpSource, air))
    return air


def metrics_of(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("mode", ["digital", "analog"])
def test_all_images_come_back_through_the_loop(air, folder, tmp_path, capsys, mode):
    out = tmp_path / "out"
    arguments = ["loop", "--images", str(folder), "--out", str(out), "--mode", mode, "--tx-gain", "7", "--json"]
    assert usrp.main(arguments) == 0
    metrics = metrics_of(capsys)
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert (metrics["images_sent"], metrics["images_received"]) == (3, 3)
    assert [row["name"] for row in metrics["rows"]] == ["a", "b", "d"]
    assert min(metrics["psnr_db"]) > 15
    assert metrics["cbr"] > 0
    assert len(metrics["left_out"]) == 1
    # The end has a packet of its own.
    assert metrics["usrp"] == {
        "packets": 4,
        "acknowledged": 4,
        "underruns": 0,
        "overruns": 0,
        "sequence_errors": 0,
        "late": 0,
        "errors": 0,
    }
    assert air.bad_tags == []
    assert max(np.abs(packet).max() for packet in air.sent) < 0.9
    assert air.settings["sink gain"] == 7
    assert air.settings["source antenna"] == "RX2"
    assert load_image(out / "gallery.png").shape[1] > 500


def test_lost_bursts_are_lost_images(air, folder, tmp_path, capsys):
    air.lose = {1}
    assert usrp.main(["loop", "--images", str(folder), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert [row["received"] for row in metrics_of(capsys)["rows"]] == [True, False, True]


def test_a_loop_that_hears_nothing_ends_and_says_so(air, folder, tmp_path, capsys):
    air.gain = 0
    assert usrp.main(["loop", "--images", str(folder), "--out", str(tmp_path / "out"), "--idle", "1"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 3" in shown
    assert shown.count("lost: ") == 3


def test_a_receiver_gets_what_a_transmitter_sends(air, folder, tmp_path, capsys):
    air.acknowledges = False
    assert usrp.main(["tx", "--images", str(folder), "--json"]) == 0
    sent = metrics_of(capsys)
    assert (sent["images_sent"], sent["bursts"], len(air.sent)) == (3, 3, 4)
    assert any("not acknowledged" in line for line in sent["problems"])

    air.overruns = {2}
    assert usrp.main(["rx", "--out", str(tmp_path / "out"), "--count", "3", "--json"]) == 0
    metrics = metrics_of(capsys)
    assert metrics["images_received"] == 3
    assert metrics["usrp"]["overruns"] == 1
    assert metrics["receiver"]["gaps"] == 1
    assert len(list((tmp_path / "out" / "received").glob("*.png"))) == 3
    assert (tmp_path / "out" / "gallery.png").is_file()


def test_a_receiver_ends_after_its_idle_time(air, tmp_path, capsys):
    assert usrp.main(["rx", "--out", str(tmp_path / "out"), "--idle", "0.5"]) == 0
    assert "0 of 0" in capsys.readouterr().out
    assert air.sent == []


def test_a_receiver_can_be_interrupted(air, tmp_path, capsys):
    def interrupt():
        if air.listened.wait(60):
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert usrp.main(["rx", "--out", str(tmp_path / "out"), "--idle", "0"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert (tmp_path / "out" / "gallery.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tx", "--images", "nowhere"], "nowhere"),
        (["tx", "--bundle", "nowhere"], "nowhere"),
        (["rx", "--out", "/dev/null/out"], "choose another folder"),
        (["tx", "--tx-antenna", "RX9"], "the antenna RX9 is not among TX/RX, RX2"),
        (["tx", "--mcs", "qpsk-7/3"], "MCS 'qpsk-7/3' is unknown"),
        (["loop", "--rate", "1.1e6"], "samples at 1e+06 Hz, not at 1.1e+06"),
    ],
)
def test_bad_input_is_one_line(air, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    air.settings["coerced rate"] = 1e6
    assert usrp.main(arguments) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("crlsc-usrp: ")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--amplitude", "1"], "--amplitude: 1 dBFS is above full scale"),
        (["--rate", "0"], "--rate: 0 is not positive"),
        (["--freq", "nan"], "'nan' is not a finite number"),
    ],
)
def test_options_out_of_range(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        usrp.main(["tx", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["tx", "rx", "loop"])
def test_without_a_device_the_command_says_what_it_tried(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert usrp.main([verb, "--device", "addr=192.0.2.1"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "'addr=192.0.2.1'" in line
    assert "uhd_find_devices" in line


@pytest.mark.parametrize("verb", ["tx", "rx", "loop"])
def test_the_program_of_grc_has_the_parameters_and_ends_without_a_device(verb, build, capsys):
    flowgraph = load_flowgraph(ROOT / "flowgraphs" / f"usrp_{verb}.grc", build)
    shown = flowgraph.__init__.__globals__["argument_parser"]().format_help()
    assert [name for name in PARAMETERS[verb].split() if f"--{name} " not in shown] == []
    with pytest.raises(SystemExit, match="2"):
        flowgraph(device="addr=192.0.2.1")
    assert "no USRP found with the device arguments 'addr=192.0.2.1'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(
    "CRLSC_UHD_ARGS" not in os.environ,
    reason="needs a USRP, TX/RX wired to RX2 over 40 dB; CRLSC_UHD_ARGS holds its device arguments",
)
def test_loop_over_a_usrp(folder, tmp_path, capsys):
    device = os.environ["CRLSC_UHD_ARGS"]
    assert usrp.main(["loop", "--device", device, "--images", str(folder), "--out", str(tmp_path), "--json"]) == 0
    metrics = metrics_of(capsys)
    assert (metrics["images_sent"], metrics["images_received"]) == (3, 3)
    assert metrics["usrp"]["acknowledged"] == metrics["usrp"]["packets"]
    assert metrics["usrp"]["underruns"] == 0
