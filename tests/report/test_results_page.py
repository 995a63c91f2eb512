"""The published page from its own sweeps, each cut down to two pictures and two points."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import results_page
import yaml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS, PICTOGRAMS = ("owl.jpg", "koala.jpg"), ("rocket-pictogram.png", "elephant-pictogram.png")
SNRS_DB = {"pictures": [0, 10], "meaning": [-5, 20], "bits": [0, 6]}


def reduced(name, folder, images):
    """The sweep of the repository with fewer points and pictures; everything else is as it is published."""
    config = yaml.safe_load((ROOT / f"docs/results/{name}.yaml").read_text())
    config |= {"snr_db": SNRS_DB[name], "stop": {"replicas": 2}}
    for curve in config["curves"].values():
        curve.pop("snr_db", None)
        curve.pop("stop", None)
    if config["images"]:
        config["images"] = {"source": f"folder:{images}", "longest": 256}
    if "keep" in config:
        config["keep"] = {"snr_db": SNRS_DB[name], "replicas": 2}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def test_the_page_says_what_its_sweeps_found(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for names, sweep in ((PHOTOGRAPHS, "pictures"), (PICTOGRAMS, "meaning"), ((), "bits")):
        for name in names:
            target = tmp_path / sweep / Path(name).stem.removesuffix("-pictogram") / name
            target.parent.mkdir(parents=True)
            shutil.copyfile(ROOT / "flowgraphs/images" / name, target)
        reduced(sweep, out, tmp_path / sweep)
    assert results_page.main(["--jobs", "1", "--work", str(tmp_path / "work"), "--out", str(out)]) == 0
    text = (out / "README.md").read_text()
    assert not re.findall(r"\{[a-z_ ]+\}", text)
    for target in re.findall(r"\]\(([\w.-]+\.(?:png|jpg|csv|yaml))\)", text):
        assert (out / target).stat().st_size, target
    with (out / "pictures.csv").open(newline="") as file:
        points = {(row["curve"], row["channel"], row["snr_db"], row["measure"]): row for row in csv.DictReader(file)}
    (shown,) = re.findall(
        r"^\| hybrid 1/12 \|.*\| ([\d.]+) ±[\d.]+ \|$",
        text.partition("| psnr_db, awgn |")[2].partition("| psnr_db, tdl-a |")[0],
        re.M,
    )
    assert float(shown) == pytest.approx(float(points["hybrid 1/12", "awgn", "10.0", "psnr_db"]["value"]), abs=0.05)
