"""Images to samples to images by the command alone, and one line for every mistake."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.cli import kb
from crlsc_phy.cli.modem import main
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.images import load_image, resize, save_png
from crlsc_phy.phy import BurstModem, Numerology, recording
from crlsc_phy.phy.taps import read_taps
from crlsc_phy.quality.metrics import psnr_db

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return ["--bundle", str(bundle_folder)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photo, image_folder):
    """Two small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    save_png(folder / "cat.png", resize(photo, 64, 96))
    save_png(folder / "duck.png", resize(load_image(image_folder / "duck.jpg"), 40, 33))
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def foreign_burst(sequence=0):
    """A burst of somebody with another bundle."""
    frame = SemanticFrame(FrameHeader(b"none", 64, 64, 16, 0, sequence=sequence), bytes(16), b"")
    return BurstModem().modulate(frame)


def test_send_receive(tmp_path, pictures, bundle, codec, capsys):
    file, out, taps = tmp_path / "air.cf32", tmp_path / "received", tmp_path / "taps"
    assert run("send", pictures, "--out", file, "--snr", 30, "--gap", 777, "--json", *bundle) == 0
    (sent,) = lines_of(capsys)
    assert sent["samples"] == file.stat().st_size // 8
    assert sent["seconds"] == pytest.approx(sent["samples"] / 1e6)
    first, second = sent["bursts"]
    assert (first["start"], second["start"]) == (0, first["samples"] + 777)

    assert run("receive", file, "--out", out, "--taps", taps, "--json", *bundle) == 0
    *rows, last = lines_of(capsys)
    assert [row["sequence"] for row in rows] == [0, 1]
    for row, burst, path in zip(rows, sent["bursts"], sorted(pictures.iterdir()), strict=True):
        assert abs(row["start"] - burst["start"]) <= 1
        assert row["snr_db"] == pytest.approx(30, abs=1)
        assert (row["mcs"], row["problem"]) == ("qpsk-1/2", None)
        assert row["layers"]["semantic"] is True
        assert row["layers"]["segment_failures"] == 0
        # Nothing was lost, so the received image is the codec's own, bit for bit.
        expected = codec.decode(codec.encode(load_image(path)))
        assert psnr_db(load_image(row["image"]), expected.image) == np.inf
        assert row["label"] == expected.label
    assert last["counters"]["bursts"] == 2
    assert len(list(out.iterdir())) == 2
    assert not list(tmp_path.rglob("*.part"))

    assert len(list(taps.iterdir())) == 2


def printed(text):
    """Text without its decimals, which depend on the last bits of estimates, and without the padding of tables."""
    return re.sub(r"-?\d+\.\d+", "#", re.sub(r" +", " ", text)).replace(" \n", "\n").splitlines()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout to who works in it."""
    for name in ("models", "flowgraphs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guide_prints_what_the_commands_print(checkout, capsys):
    pytest.importorskip("matplotlib")
    guide = (ROOT / "docs" / "modem.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", guide, re.DOTALL)
    # In the guide the drawing of taps comes before the recording of them.
    examples = [example for block in reversed(blocks) for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    assert [example.split()[1] for example in examples] == ["-p", "send", "receive", "plot"]
    for example in examples:
        line, _, expected = example.partition("\n")
        program, *arguments = shlex.split(line)
        if program == "mkdir":
            Path(arguments[-1]).mkdir(parents=True)
            continue
        assert (program, main(arguments)) == ("crlsc-modem", 0)
        captured = capsys.readouterr()
        assert printed(captured.out + captured.err) == printed(expected)
    with Image.open(checkout / "out" / "taps" / "burst-000002.png") as image:
        assert image.size == (1600, 1000)


def test_the_examples_of_the_help_run(checkout, capsys):
    pytest.importorskip("matplotlib")
    for verb in ("send", "receive", "plot"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        # In a line of its own, for copying.
        (example,) = re.findall(r"^example: crlsc-modem (.*)$", capsys.readouterr().out, re.MULTILINE)
        assert main([*shlex.split(example), "--json"]) == 0
    assert lines_of(capsys) == [{"burst": 0, "file": "burst.png"}]
    assert len(list((checkout / "received").iterdir())) == 1
    with Image.open(checkout / "burst.png") as image:
        assert image.size == (1600, 1000)


def test_any_file_name_on_any_terminal(tmp_path, pictures, bundle, monkeypatch):
    # A byte that is no UTF-8, a character beyond Latin-1, and a length near the 255 bytes of a file system.
    name = os.fsdecode(b"caf\xe9 \xe6\xbc\xa2 ") + 240 * "x"
    folder = tmp_path / name
    folder.mkdir()
    image = folder / f"{name}.png"
    shutil.copy(pictures / "cat.png", image)
    written = io.BytesIO()
    for stream, encoding in (("stdout", "latin-1"), ("stderr", "ascii")):
        monkeypatch.setattr(f"sys.{stream}", io.TextIOWrapper(written, encoding, write_through=True))
    file, out, taps = folder / f"{name}.npy", folder / "out", folder / "taps"
    for json_wanted in ([], ["--json"]):
        assert run("send", image, "--out", file, *json_wanted, *bundle) == 0
        assert run("receive", file, "--out", out, "--taps", taps, *json_wanted, *bundle) == 0
    assert run("send", folder / f"{name}.jpg", "--out", file, *bundle) == 2
    assert b"no such file" in written.getvalue()
    assert len(list(out.iterdir())) == 1
    assert [burst.notes["header_ok"] for burst in read_taps(taps)] == [True]


def test_the_table_says_what_came(tmp_path, pictures, bundle, capsys):
    file = tmp_path / "air.npy"
    settings = ("--numerology", 256, "--sample-rate", 1e6)
    sender = ("--mcs", 5, "--papr-db", 6, "--snr", 14)
    assert run("send", pictures / "cat.png", "--out", file, *settings, *sender, *bundle) == 0
    assert re.fullmatch(r".*air\.npy: 1 burst, [\d,]+ samples, 0\.0\d\d s at 1 MS/s\n", capsys.readouterr().out)
    samples = np.load(file)
    assert samples.dtype == np.complex64
    assert run("receive", file, "--out", tmp_path / "out", *settings, *bundle) == 0
    heading, row, counters, images = capsys.readouterr().out.splitlines()
    assert heading.split() == ["start", "seq.", "Es/N0", "dB", "CFO", "Hz", "EVM", "dB", "MCS", "layers", "label"]
    assert re.search(r"16qam-1/2 +air code, \d/\d +\w", row)
    assert counters == f"{len(samples):,} samples, 1 preamble, 1 burst"
    assert images.endswith("out: 1 image")


def test_the_list_alone_needs_no_bundle(tmp_path, pictures, bundle, capsys, monkeypatch):
    file = tmp_path / "air.cf32"
    assert run("send", pictures, "--out", file, *bundle) == 0
    # The middle of the first detail layer is gone.
    samples = np.fromfile(file, np.complex64)
    samples[6000:9000] = 0
    samples.tofile(file)
    capsys.readouterr()
    listed = []
    for chunk in (recording.CHUNK, 1000):
        monkeypatch.setattr(recording, "CHUNK", chunk)
        assert run("receive", file, "--no-images", "--bundle", tmp_path / "nowhere", "--json") == 0
        listed.append(lines_of(capsys))
    # How the file is cut into pieces does not matter.
    assert listed[0] == listed[1]
    first, second, last = listed[0]
    assert first["layers"]["segment_failures"] > 0 == second["layers"]["segment_failures"]
    assert first["label"] is None
    assert "image" not in first
    assert last["counters"]["segment_failures"] == first["layers"]["segment_failures"]
    assert run("receive", file, "--no-images") == 0
    assert "segments lost" in capsys.readouterr().out


def test_noise_is_that_of_the_seed(tmp_path, pictures, bundle):
    contents = []
    for seed in (1, 1, 2):
        file = tmp_path / "air.cf32"
        assert run("send", pictures / "duck.png", "--out", file, "--snr", 10, "--seed", seed, *bundle) == 0
        contents.append(np.fromfile(file, np.complex64))
    assert np.array_equal(contents[0], contents[1])
    noise = contents[0] - contents[2]
    # The difference of two noises; the power of a sample is that of the carriers in use, spread over all.
    numerology = Numerology()
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(2 * 0.1 * numerology.fft_size / numerology.occupied, rel=0.05)


@pytest.mark.parametrize("name", ["empty.cf32", "zeros.cf32", "zeros.npy", "empty.npy"])
def test_nothing_there_is_no_mistake(tmp_path, name, capsys):
    samples = np.zeros(0 if name.startswith("empty") else 5000, np.complex64)
    np.save(tmp_path / name, samples) if name.endswith(".npy") else samples.tofile(tmp_path / name)
    assert run("receive", tmp_path / name, "--no-images") == 0
    assert f"{name}: no burst found\n{len(samples):,} samples" in capsys.readouterr().out
    assert run("receive", tmp_path / name, "--no-images", "--json") == 0
    assert list(lines_of(capsys)[0]) == ["counters"]


def test_a_foreign_bundle_is_told(tmp_path, pictures, bundle, capsys):
    foreign_burst().tofile(tmp_path / "foreign.cf32")
    assert run("receive", tmp_path / "foreign.cf32", "--out", tmp_path / "out", *bundle) == 2
    assert "frame was made with knowledge base" in capsys.readouterr().err
    # Between others it is no reason to fail.
    assert run("send", pictures / "duck.png", "--out", tmp_path / "own.cf32", *bundle) == 0
    own = np.fromfile(tmp_path / "own.cf32", np.complex64)
    np.concatenate((foreign_burst(), own)).tofile(tmp_path / "both.cf32")
    assert run("receive", tmp_path / "both.cf32", "--out", tmp_path / "out", *bundle) == 0
    captured = capsys.readouterr()
    assert captured.err.count("knowledge base") == 1
    assert "out: 1 image" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("send {pictures}/none.png --out {tmp}/a.cf32", r"none\.png: no such file"),
        ("send {tmp}/text.txt --out {tmp}/a.cf32", r"text\.txt: not a readable image"),
        ("send {pictures}/cat.png {tmp}/tiny.png --out {tmp}/a.cf32", r"tiny\.png: image is 8x8 pixels"),
        ("send {pictures}/cat.png --out {tmp}/a.cf32 --mcs 99", "MCS 99 is unknown; choose one of 0 qpsk-1/5, "),
        ("send {pictures}/cat.png --out {tmp}/a.cf32 --mcs bpsk", "MCS 'bpsk' is unknown; choose"),
        ("send {pictures}/cat.png --out {tmp}/a.cf32 --numerology 65", "numerology preset '65' is unknown"),
        ("send {pictures}/cat.png --out {tmp}/a.cf32 --sample-rate 0", "sample_rate is 0"),
        (
            "send {pictures}/cat.png --out {tmp}/a.cf32 --papr-db 1",
            r"papr_db is 1\.0; it must be a number of dB, 3 or higher",
        ),
        ("send {pictures}/cat.png --out {tmp}/none/a.cf32", r"a\.cf32: cannot be written \(No such file"),
        ("send {pictures}/cat.png --out {tmp}", "is a folder; give a file"),
        ("receive {tmp}/none.cf32 --no-images", r"none\.cf32: no such file"),
        ("receive {tmp}/none.npy --no-images", r"none\.npy: no such file"),
        ("receive {tmp} --no-images", "cannot be read"),
        ("receive {tmp}/odd.cf32 --no-images", r"odd\.cf32: its 1001 bytes are not a multiple of 8"),
        ("receive {tmp}/real.npy --no-images", r"real\.npy: holds float64 \[5\]"),
        ("receive {tmp}/flat.npy --no-images", r"flat\.npy: holds complex64 \[5, 2\]"),
        ("receive {tmp}/text.npy --no-images", r"text\.npy: is damaged, or is not a \.npy file"),
        ("receive {tmp}/good.cf32 --no-images --numerology 65", "numerology preset '65' is unknown"),
        ("receive {tmp}/good.cf32 --out {tmp}/text.txt", r"text\.txt: cannot be made"),
        ("receive {tmp}/good.cf32 --no-images --taps {tmp}/text.txt", r"text\.txt: taps cannot be written"),
        ("plot {tmp}/none", "none: no such folder"),
        ("plot {tmp}", "holds no taps"),
    ],
)
def test_mistakes_are_one_line(tmp_path, pictures, bundle, capsys, arguments, message):
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "odd.cf32").write_bytes(bytes(1001))
    (tmp_path / "good.cf32").write_bytes(bytes(8000))
    np.save(tmp_path / "real.npy", np.ones(5))
    np.save(tmp_path / "flat.npy", np.ones((5, 2), np.complex64))
    save_png(tmp_path / "tiny.png", np.zeros((8, 8, 3), np.uint8))
    given = arguments.format(pictures=pictures, tmp=tmp_path).split()
    assert run(*given, *([] if given[0] == "plot" else bundle)) == 2
    error = capsys.readouterr().err
    assert error.startswith("crlsc-modem: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    # What was begun is not left lying about.
    assert not (tmp_path / "a.cf32").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_missing_bundle_is_one_line(tmp_path, pictures, capsys):
    given = ("send", pictures / "cat.png", "--out", tmp_path / "a.cf32", "--bundle", tmp_path)
    assert run(*given) == 2
    assert capsys.readouterr().err == f"crlsc-modem: bundle {tmp_path}: holds no manifest.json\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["receive", "a.cf32"],
        ["receive", "a.cf32", "--no-images", "--out", "b"],
        ["send", "--out", "a.cf32"],
        ["send", "a.png"],
        ["send", "a.png", "--out", "a.cf32", "--snr", "nan"],
        ["send", "a.png", "--out", "a.cf32", "--snr", "-4000"],
        ["send", "a.png", "--out", "a.cf32", "--snr", "4000"],
        ["send", "a.png", "--out", "a.cf32", "--gap", "-1"],
        ["plot", "taps", "--burst", "x"],
    ],
)
def test_a_wrong_call_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: crlsc-modem" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [[], ["send"], ["receive"], ["plot"]])
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*verb, "--help"])
    assert caught.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_an_interrupted_reception_reports_what_came(tmp_path, pictures, bundle, capsys, monkeypatch):
    file = tmp_path / "air.cf32"
    assert run("send", pictures, "--out", file, *bundle) == 0
    capsys.readouterr()
    receive = BurstModem.receive

    def interrupted(modem, samples):
        if modem.counters.bursts:
            raise KeyboardInterrupt
        return receive(modem, samples)

    monkeypatch.setattr(BurstModem, "receive", interrupted)
    monkeypatch.setattr(recording, "CHUNK", 5000)
    assert run("receive", file, "--no-images") == 130
    captured = capsys.readouterr()
    assert re.search(r"preambles?, 1 burst\n", captured.out)
    assert captured.err == "crlsc-modem: interrupted\n"


def test_a_private_base_restores_and_names_what_the_shared_one_does_not_know(tmp_path, pictures, bundle, capsys):
    file, pkb = tmp_path / "air.cf32", tmp_path / "pkb"
    assert kb.main(["build", str(pkb), "--images", str(pictures), "--json", *bundle]) == 0
    capsys.readouterr()
    assert run("send", pictures / "cat.png", "--out", tmp_path / "clean.cf32", *bundle) == 0
    assert run("send", *12 * [pictures / "cat.png"], "--out", file, "--snr", -9, *bundle) == 0
    file.write_bytes((tmp_path / "clean.cf32").read_bytes() + file.read_bytes())
    capsys.readouterr()
    rows = {}
    for name, private in (("shared", []), ("both", ["--private", pkb])):
        assert run("receive", file, "--out", tmp_path / name, "--json", *private, *bundle) == 0
        rows[name] = lines_of(capsys)[:-1]
    lost = [row for row in rows["both"] if not row["layers"]["semantic"]]
    assert len(lost) >= 4
    assert sum(row["repaired"] and row["label"] == "cat" for row in lost) >= 0.6 * len(lost)
    assert sum(row["repaired"] for row in rows["shared"]) < sum(row["repaired"] for row in rows["both"])
    # In the table too; up to the first of them is enough.
    start = next(row["start"] for row in lost if row["repaired"])
    file.write_bytes(file.read_bytes()[: 8 * (start + 12_000)])
    assert run("receive", file, "--out", tmp_path / "again", "--private", pkb, *bundle) == 0
    assert "air code repaired" in capsys.readouterr().out
    assert run("receive", file, "--out", tmp_path / "again", "--private", tmp_path / "nowhere", *bundle) == 2
    assert "nowhere" in capsys.readouterr().err
