"""``crlsc-kb``, as a command."""

import csv
import io
import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.cli.kb import main
from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import Entry, KnowledgeBase
from crlsc_phy.knowledge.migrate import migrate


def run(capsys, *arguments) -> dict:
    assert main([str(argument) for argument in (*arguments, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def pictures(tmp_path, image_folder):
    folder = tmp_path / "pictures"
    (folder / "birds").mkdir(parents=True)
    shutil.copy(image_folder / "owl.jpg", folder / "birds/one.jpg")
    shutil.copy(image_folder / "cat-face.jpg", folder / "cat.jpg")
    return folder


def test_images_are_found_again_beside_the_shared_base(capsys, tmp_path, pictures, bundle_folder):
    pkb = tmp_path / "pkb"
    made = run(capsys, "build", pkb, "--images", pictures, "--bundle", bundle_folder, "--licence", "CC0-1.0")
    assert made["entries"] == 2
    assert made["aligned_to"] == KnowledgeBase.open(bundle_folder / "skb").id
    entry = KnowledgeBase.open(pkb).entry("birds/one.jpg")
    assert (entry.label, entry.licence, entry.thumbnail[8:12]) == ("birds", "CC0-1.0", b"WEBP")
    image = pictures / "birds/one.jpg"
    hits = run(capsys, "search", bundle_folder / "skb", pkb, "--image", image, "--bundle", bundle_folder, "-k", 3)
    assert (hits[0]["label"], hits[0]["base"], hits[1]["base"]) == ("birds", "pkb", "skb")
    assert hits[0]["score"] > 0.8
    code = KnowledgeBase.open(pkb).codes[0].tobytes().hex()
    assert run(capsys, "search", pkb, "--code", code, "-k", 1)[0]["name"] == "birds/one.jpg"


def test_calibration_with_a_folder_of_pictures(capsys, tmp_path, pictures, image_folder, bundle_folder):
    bundle, pkb, other = ("--bundle", bundle_folder), tmp_path / "pkb", tmp_path / "other"
    made = run(capsys, "build", pkb, "--images", pictures, *bundle)
    shared = KnowledgeBase.open(bundle_folder / "skb")
    assert (made["tau"], made["threshold"]) == (shared.tau, shared.manifest.threshold)
    for place, name in (("birds", "duck.jpg"), ("cat", "cat-face.jpg")):
        (other / place).mkdir(parents=True)
        load = Image.open(image_folder / name)
        load.crop((8, 8, load.width - 8, load.height - 8)).save(other / place / name)
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    shutil.copy(image_folder / "leaves.jpg", unknown)
    found = run(capsys, "calibrate", pkb, "--images", other, "--unknown", unknown, *bundle)
    base = KnowledgeBase.open(pkb)
    assert (base.tau, base.manifest.threshold) == (found["tau"], found["threshold"])
    assert found["right"] == 1
    assert found["believed"] < 1
    assert main([str(a) for a in ("calibrate", pkb, "--images", unknown, *bundle)]) == 2
    assert "no calibration picture has a label of the knowledge base" in capsys.readouterr().err


def test_vectors_with_a_table_of_entries(capsys, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    with (tmp_path / "entries.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "label"), *((f"n{i}", f"l{i % 3}") for i in range(600))])
    kb, source = tmp_path / "kb", ("--vectors", tmp_path / "vectors.npy", "--entries", tmp_path / "entries.csv")
    made = run(capsys, "build", kb, *source, "--code-bytes", 2, "--keep-vectors")
    assert (made["entries"], made["code_bytes"], made["dim"], made["vectors"]) == (600, 2, 16, "kept as int8")
    assert run(capsys, "remove", kb, "--label", "l0") == {"removed": 200, "entries": 400}
    assert run(capsys, "compact", kb)["shards"] == 1
    assert run(capsys, "verify", kb)["faults"] == []
    shutil.copytree(kb, tmp_path / "other")
    assert run(capsys, "remove", kb, "--names", "n1") == {"removed": 1, "entries": 399}
    assert run(capsys, "merge", kb, tmp_path / "other") == {"added": 1, "duplicates": 399, "entries": 400}
    listed = run(capsys, "info", kb, "--entries", 2)["listed"]
    assert [entry["name"] for entry in listed] == ["n2", "n4"]
    np.save(tmp_path / "queries.npy", vectors[:20])
    assert main(["search", str(kb), "--vectors", str(tmp_path / "queries.npy"), "-k", "1"]) == 0
    assert capsys.readouterr().out.count("score") == 20


def noise(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def test_file_names_of_any_bytes_and_length(capsys, tmp_path, bundle_folder):
    folder, pkb = tmp_path / "pictures", tmp_path / "pkb"
    (folder / "[b]odd[/i]").mkdir(parents=True)
    for seed, name in enumerate((b"caf\xe9.png", b"x" * 240 + b".png", b"[b]odd[/i]/[red].png")):
        noise(folder / os.fsdecode(name), seed)
    source = ("--images", folder, "--bundle", bundle_folder)
    assert run(capsys, "build", pkb, *source)["skipped"] == 0
    names = {"caf\\udce9.png", "x" * 240 + ".png", "[b]odd[/i]/[red].png"}
    assert {entry.name for entry in KnowledgeBase.open(pkb).entries} == names
    assert main(["info", str(pkb), "--entries", "9"]) == 0
    shown = capsys.readouterr().out
    assert "caf\\udce9" in shown
    assert "[b]odd[/i]" in shown
    assert run(capsys, "remove", pkb, "--names", os.fsdecode(b"caf\xe9.png"))["entries"] == 2
    assert run(capsys, "add", tmp_path / "pkb", *source[2:], "--images", folder / "[b]odd[/i]")["entries"] == 3
    assert len(migrate(KnowledgeBase.open(pkb), tmp_path / ("y" * 250))) == 3
    odd = run(capsys, "build", tmp_path / os.fsdecode(b"\xfcber"), *source)
    assert odd["name"] == "\\udcfcber"
    base = KnowledgeBase.open(pkb)
    with pytest.raises(KnowledgeBaseError, match="not valid Unicode"):
        base.add(np.ones((1, 64)), [Entry("\udce9", "x")])
    assert base.known(["\udce9"]) == set()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_any_terminal_shows_any_name(monkeypatch, tmp_path, bundle_folder, encoding):
    code = KnowledgeBase.open(bundle_folder / "skb").air_code
    KnowledgeBase.create(tmp_path / "kb", code, np.ones((1, 64)), [Entry("鶫/−", "鶫")])
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding))
    assert main(["info", str(tmp_path / "kb"), "--entries", "1"]) == 0
    sys.stdout.flush()
    assert b"\\u9dab/\\u2212" in screen.getvalue()


def test_broken_pictures_are_named_counted_and_left_out(capsys, tmp_path, pictures, bundle_folder):
    bundle, pkb = ("--bundle", bundle_folder), tmp_path / "pkb"
    (pictures / "birds/broken.png").write_bytes(b"no image")
    (pictures / "birds/one.png").write_bytes((pictures / "birds/one.jpg").read_bytes()[:999])
    assert main(["build", str(pkb), "--images", str(pictures), *map(str, bundle)]) == 0
    shown = capsys.readouterr()
    assert [name for name in ("broken.png", "one.png") if f"birds/{name}: not a readable image" in shown.err] == [
        "broken.png",
        "one.png",
    ]
    assert shown.err.count("skipped: ") == 2
    assert "skipped" in shown.out
    assert len(KnowledgeBase.open(pkb)) == 2
    assert run(capsys, "remove", pkb, "--names", "cat.jpg")["entries"] == 1
    (pictures / "birds/one.jpg").unlink()
    added = run(capsys, "add", pkb, "--images", pictures, *bundle)
    assert (added["entries"], added["skipped"]) == (2, 2)
    assert run(capsys, "calibrate", pkb, "--images", pictures, *bundle)["skipped"] == 2
    (pictures / "cat.jpg").unlink()
    for verb in ("build", "add", "calibrate"):
        path = tmp_path / "new" if verb == "build" else pkb
        assert main([verb, str(path), "--images", str(pictures), *map(str, bundle)]) == 2
        assert "pictures: none of its 2 images can be read" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_tables_as_spreadsheets_save_them(capsys, tmp_path, bundle_folder, mark):
    np.save(tmp_path / "v.npy", np.eye(2, 64, dtype=np.float32))
    (tmp_path / "e.csv").write_bytes(mark + "name,label,licence\r\na,öl,CC0-1.0\r\nb,y,CC0-1.0\r\n".encode())
    source = ("--vectors", tmp_path / "v.npy", "--entries", tmp_path / "e.csv")
    code = bundle_folder / "skb/000001/air_code.safetensors"
    assert run(capsys, "build", tmp_path / "kb", *source, "--air-code", code)["entries"] == 2
    assert KnowledgeBase.open(tmp_path / "kb").entry("a").label == "öl"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "holds no knowledge base"),
        (["search", "kb", "--code", "zz"], "is not an air code in hex"),
        (["search", "kb", "--text", "щщ"], "no word of it occurs"),
        (["search", "kb", "--code", "00"], "codes have shape [1, 1]"),
        (["search", "kb", "--vectors", "absent.npy"], "not an array of vectors"),
        (["add", "kb", "--vectors", "v.npy"], "needs --entries"),
        (["build", "new", "--vectors", "v.npy", "--entries", "e.csv"], "needs --air-code or --code-bytes"),
        (["build", "new", "--images", "nowhere"], "no such folder"),
        (["merge", "kb", "nowhere"], "holds no knowledge base"),
        (["verify", "nowhere"], "holds no knowledge base"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, bundle_folder, arguments, message):
    shutil.copytree(bundle_folder / "skb", tmp_path / "kb")
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.zeros((1, 64), np.float32))
    (tmp_path / "e.csv").write_text("name,label\na,b\n")
    options = ["--bundle", str(bundle_folder)] if {"--images", "--text"} & set(arguments) else []
    assert main([*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("crlsc-kb: ")
    assert error.count("\n") == 1
    assert message in error
