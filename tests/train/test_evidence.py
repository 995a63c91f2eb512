"""One job of each experiment at the smallest budget, on small data, and the page that is made of them."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from crlsc_phy.data import OBJECT_CATEGORIES
from crlsc_phy.data.listed import key_of, rows_of
from crlsc_phy.data.pictograms import NAMES

pytest.importorskip("lightly")
pytestmark = pytest.mark.slow
EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"
THINGS = 48


@pytest.fixture(scope="module")
def run():
    sys.path.insert(0, str(EVIDENCE))
    yield importlib.import_module("run")
    sys.path.remove(str(EVIDENCE))


@pytest.fixture(scope="module")
def lab(run, tmp_path_factory, bundle_folder):
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    ids = np.array([f"{i:x}" for i in range(300)])
    # Two kinds of things that a network can tell apart, and many that are neither.
    shades = np.where(np.arange(len(ids)) % 2, 60, 180)[:, None, None, None]
    for vendor in ("google", "twitter", "fluent"):
        images = (shades + rng.integers(0, 60, (len(ids), 128, 128, 3))).astype(np.uint8)
        categories = np.array([OBJECT_CATEGORIES[0]] * THINGS + ["Symbols"] * (len(ids) - THINGS))
        names = np.array([f"thing {i}" for i in ids])
        np.savez(data / f"pictograms-{vendor}.npz", images=images, ids=ids, names=names, categories=categories)
    kinds = [{"unified": name.upper(), "subcategory": f"kind {i % 2}"} for i, name in enumerate(ids)]
    (data / "cache" / NAMES / "package").mkdir(parents=True)
    (data / "cache" / NAMES / "package/emoji.json").write_text(json.dumps(kinds))
    for split in ("train", "heldout"):
        photos = {f"set/{i}": rng.integers(0, 256, (140, 150, 3), np.uint8) for i in range(2)}
        np.savez(data / f"photos-{split}.npz", **photos)
        for name in ("animals", "faces"):
            keys = [key_of(row) for row in rows_of(name, split)]
            np.savez(data / f"{name}-{split}.npz", **{key: rng.integers(0, 256, (64, 64, 3), np.uint8) for key in keys})
    changes = "skb.pixels=[32,48]", "skb.photo_crops=20", "skb.steps=2", "skb.order_rounds=10", "encoder.loop.steps=1"
    budget = run.Budget("tiny", (0,), changes, 1, 1)
    folder = tmp_path_factory.mktemp("runs")
    lab = run.Lab(budget, data, folder, bundle_folder)
    lab.make_base(0, 1)
    for need in ("encoder/small", "encoder/medium", "encoder/large", "terminal/large"):
        lab.make(0, need)
    return lab


@pytest.mark.parametrize("name", ["E1", "E2", "E3", "E4", "E5", "E6", "E7"])
def test_an_experiment_runs_resumes_and_reports(run, lab, name, tmp_path):
    (experiment,) = run.experiments([name]).values()
    for arm in experiment.arms(lab):
        run.do_job(lab, name, 0, arm)
    before = run.results_of(lab, name, experiment)
    for arm in experiment.arms(lab):
        run.do_job(lab, name, 0, arm)
    assert run.results_of(lab, name, experiment) == before
    run.write_results(lab, {name: experiment}, tmp_path)
    run.write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert f"## {name}: {experiment.TITLE}" in page
    assert "nan" not in page
    shown = re.findall(r"!\[.*?\]\((.+?)\)", page)
    assert f"{name.lower()}.png" in shown
    assert all((tmp_path / picture).stat().st_size > 1000 for picture in shown)


def test_an_unknown_experiment_is_refused(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(["E9"])
    assert stop.value.code == 2
    assert "there is no experiment E9; choose among E1, E2" in capsys.readouterr().err
