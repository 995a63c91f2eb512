"""The Companion's side of the blocks, and the whole link as a program of its own."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pmt
import pytest
import yaml
from gr_helpers import finish, picture

import gr_blocks
from crlsc_phy.cli import demo, demo_zmq, flowgraphs
from crlsc_phy.images import load_image, save_png
from crlsc_phy.quality.metrics import psnr_db
from gr_blocks import flowgraph as flowgraph_module
from gr_blocks.flowgraph import FlowgraphError, load_flowgraph

BLOCKS = sorted(path.name.removesuffix(".block.yml") for path in Path(gr_blocks.__file__).parent.glob("*.block.yml"))
FLOWGRAPHS = sorted((Path(gr_blocks.__file__).parents[1] / "flowgraphs").glob("*.grc"))


@pytest.mark.parametrize("name", BLOCKS)
def test_companion_describes_the_block_as_it_is(name):
    folder = Path(gr_blocks.__file__).parent
    described = yaml.safe_load((folder / f"{name}.block.yml").read_text())
    block = getattr(import_module(f"gr_blocks.{name}"), name)
    passed = re.findall(r"\$\{(\w+)\}", described["templates"]["make"])
    assert passed == [parameter["id"] for parameter in described["parameters"]]
    assert passed == list(inspect.signature(block).parameters)
    instance = block()
    defaults = {parameter["id"]: parameter["default"] for parameter in described["parameters"]}
    for ports, registered in (("inputs", instance.message_ports_in()), ("outputs", instance.message_ports_out())):
        names = {port["id"] for port in described[ports] if port["domain"] == "message" and not hidden(port, defaults)}
        assert names == set(pmt.to_python(registered)) - {"system"}
    assert all(title in described["documentation"] for title in ("Inputs:", "Outputs:", "Parameters:"))
    assert set(instance.stats()) >= {"errors"}


def hidden(port, parameters):
    """Whether the Companion hides a port for these parameters."""
    (expression,) = re.fullmatch(r"\$\{(.*)\}", port.get("hide", "${False}")).groups()
    return eval(expression, {}, parameters)


@pytest.mark.parametrize("grc", FLOWGRAPHS, ids=lambda path: path.stem)
def test_flowgraph_compiles(grc, build):
    assert load_flowgraph(grc, build).__name__ == grc.stem


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("id: crlsc_image_sink", "id: no_such_block"), "does not know image_sink_0"),
        (("noise_voltage: noise_voltage", "noise_voltage: ''"), "does not compile|an error in line"),
        (("id: loopback_sim", "id: another"), "options id"),
    ],
)
def test_a_broken_flowgraph_is_one_line(tmp_path, change, match):
    text = FLOWGRAPHS[0].read_text()
    assert change[0] in text
    broken = tmp_path / "loopback_sim.grc"
    broken.write_text(text.replace(*change))
    # A program of an earlier compilation is not taken for this one.
    for _ in range(2):
        with pytest.raises(FlowgraphError, match=match) as caught:
            load_flowgraph(broken, tmp_path / "build")
        assert "\n" not in str(caught.value)
        (tmp_path / "build" / "loopback_sim.py").touch()


@pytest.fixture(scope="module")
def loopback(build):
    return load_flowgraph(FLOWGRAPHS[0], build)


def run(loopback, images, bundle, out, **options):
    flowgraph = loopback(images=str(images), bundle=str(bundle), out=str(out), **options)
    flowgraph.start()
    try:
        finish(flowgraph, 120)
    finally:
        flowgraph.stop()
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.usefixtures("loopback")
def test_every_image_arrives_as_the_codec_left_it(build, image_folder, bundle_folder, codec, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted(image_folder.glob("*.*g"), key=lambda path: path.stat().st_size)[:5]:
        (images / path.name).write_bytes(path.read_bytes())
    arguments = [f"--images={images}", f"--bundle={bundle_folder}", f"--out={tmp_path / 'out'}", "--snr-db=20"]
    program = [sys.executable, str(build / "loopback_sim.py"), *arguments, "--cfo-hz=2500", "--sro-ppm=10"]
    subprocess.run(program, check=True, timeout=240, cwd=build)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["images_sent"], metrics["images_received"], metrics["frames_lost"]) == (5, 5, 0)
    assert metrics["snr_db_estimated"] == pytest.approx(20, abs=1.5)
    for row in metrics["rows"]:
        image = load_image(next(images.glob(f"{row['name']}.*")))
        without_channel = codec.decode(codec.encode(image))
        assert row["psnr_db"] == pytest.approx(psnr_db(image, without_channel.image), abs=0.5)
        assert row["label"] == without_channel.label


def test_a_long_run_ends_with_its_last_image(loopback, bundle_folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(40):
        save_png(images / f"{index:03}.png", picture(index, 32, 32))
    metrics = run(loopback, images, bundle_folder, tmp_path / "out", snr_db=25, sro_ppm=-40)
    assert metrics["images_received"] == 40
    assert [row["name"] for row in metrics["rows"]] == [f"{index:03}" for index in range(40)]


def test_a_dead_channel_loses_all_and_still_ends(loopback, folder, bundle_folder, tmp_path):
    metrics = run(loopback, folder, bundle_folder, tmp_path / "out", snr_db=-30)
    assert (metrics["images_sent"], metrics["images_received"], metrics["frames_lost"]) == (3, 0, 3)
    assert (tmp_path / "out" / "gallery.png").is_file()


def test_blocks_that_are_in_the_path_twice_are_no_matter(build, monkeypatch, capfd):
    """`make` sets GRC_BLOCKS_PATH for Companion; the demo must not show what GNU Radio says of it."""
    monkeypatch.setenv("GRC_BLOCKS_PATH", str(flowgraph_module.BLOCKS))
    flowgraph_module._platform.cache_clear()
    load_flowgraph(FLOWGRAPHS[0], build)
    flowgraph_module._platform.cache_clear()
    assert "overwritten" not in "".join(capfd.readouterr())


def test_a_flowgraph_compiles_without_a_writable_home(build, monkeypatch, tmp_path):
    from gnuradio.grc.core import Constants

    monkeypatch.setattr(Constants, "CACHE_FILE", "/proc/none/cache.json")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flowgraph_module._platform.cache_clear()
    assert load_flowgraph(FLOWGRAPHS[0], build).__name__ == FLOWGRAPHS[0].stem
    assert Path(Constants.CACHE_FILE).is_relative_to(tmp_path)


def test_nothing_is_written_beside_the_flowgraphs(build):
    """And nothing that the Companion writes there is taken for a part of the checkout."""
    assert not list(FLOWGRAPHS[0].parent.glob("*.py"))
    assert flowgraphs.build_folder() == build
    assert "/flowgraphs/*.py" in (FLOWGRAPHS[0].parents[1] / ".gitignore").read_text().splitlines()


def test_demo_names_what_it_leaves_out_and_goes_on(folder, tmp_path, capsys):
    assert demo.main(["--images", str(folder), "--out", str(tmp_path / "out"), "--snr", "20", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images_sent"], metrics["images_received"]) == (3, 3)
    assert len(metrics["left_out"]) == 1
    assert "c.png" in metrics["left_out"][0]
    assert metrics["label_correct"][0] is None
    assert metrics["label_correct"][1] in (True, False)
    assert metrics["configuration"]["snr_db"] == 20
    assert metrics["cbr"] > 0
    assert metrics["seconds"] > 0
    assert np.asarray(load_image(tmp_path / "out" / "gallery.png")).shape[1] > 500


def test_demo_can_be_interrupted(tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for index in range(7):
        save_png(images / f"{index:04}.png", picture(index, 64, 64))
    for index in range(7, 1000):
        (images / f"{index:04}.png").symlink_to(images / f"{index % 7:04}.png")

    def interrupt():
        deadline = time.monotonic() + 120
        while not list(out.glob("received/*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert demo.main(["--images", str(images), "--out", str(out)]) == 130
    assert "interrupted" in capsys.readouterr().err
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 < metrics["images_received"] < 1000
    assert (out / "gallery.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "nowhere"),
        (["--images", "."], "holds no image"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--mcs", "qpsk-7/3"], "MCS 'qpsk-7/3' is unknown"),
        (["--out", "/dev/null/out"], "choose another folder"),
    ],
)
def test_demo_ends_with_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("python -m crlsc_phy.cli.demo: ")
    assert message in lines[-1]


def test_the_example_in_the_documentation_runs(image_folder, bundle_folder, tmp_path):
    root = image_folder.parents[1]
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "blocks.md").read_text(), re.DOTALL)
    for relative, path in (
        ("flowgraphs/images", image_folder),
        ("models/default", bundle_folder),
        ("out/example", tmp_path),
    ):
        assert relative in code
        code = code.replace(relative, str(path))
    exec(code, {})
    assert json.loads((tmp_path / "metrics.json").read_text())["images_received"] == 1


def test_three_programs_over_zmq(folder, bundle_folder, tmp_path, capsys):
    """Sender, crlsc-channel and receiver, each a process of its own."""
    arguments = [
        "--images",
        folder,
        "--bundle",
        bundle_folder,
        "--out",
        tmp_path / "out",
        "--channel",
        "awgn",
        "--json",
    ]
    assert demo_zmq.main([str(argument) for argument in arguments]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["images_received"] == 3
    assert len(list((tmp_path / "out/received").glob("*.png"))) == 3
    assert (tmp_path / "out/gallery.png").is_file()


def test_demo_over_a_sionna_channel(folder, tmp_path, capsys):
    arguments = ["--images", str(folder), "--out", str(tmp_path / "out"), "--channel", "tdl-d", "--snr", "20", "--json"]
    assert demo.main(arguments) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["images_sent"], metrics["images_received"]) == (3, 3)
    assert metrics["configuration"]["channel"] == "tdl-d"
    assert demo.main([*arguments[:-5], "--channel", "tdl-x"]) == 2
    assert "channel model 'tdl-x' is unknown" in capsys.readouterr().err
