"""Configurations of sweeps: ranges, presets, what names a line, and what is refused before anything runs."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from crlsc_phy.cli.sweep import main
from crlsc_phy.errors import SweepError
from crlsc_phy.images import save_png
from crlsc_phy.sweep.config import load_config, parse_snrs, presets
from crlsc_phy.sweep.engine import check_chains
from crlsc_phy.sweep.plan import make_plan

BITS = """
snr_db: 0:4:2
channels: {awgn: {model: awgn}, flat: {model: rayleigh-block}}
curves: {coded: {chain: coded, k: 100, blocks: 5}, bare: {chain: coded, k: 100, rate: 1, channels: [flat]}}
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, bundle_folder):
    """Presets name bundle and pictures as they lie in the repository."""
    monkeypatch.chdir(bundle_folder.parent.parent)


@pytest.fixture
def bits(tmp_path):
    path = tmp_path / "bits.yaml"
    path.write_text(BITS)
    return path


@pytest.mark.parametrize(
    ("given", "snrs"),
    [
        ("-10:25:2.5", tuple(np.arange(-10, 26, 2.5))),
        ("0:1:0.1", tuple(round(0.1 * i, 9) for i in range(11))),
        ("0:5:2", (0, 2, 4)),
        (["10:10.5:1", 3, "-0.0"], (0, 3, 10)),
        ("7,5,-2:0:1", (-2, -1, 0, 5, 7)),
        (4, (4,)),
    ],
)
def test_ranges_include_their_stop(given, snrs):
    assert parse_snrs(given) == pytest.approx(snrs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("25:-10:-2.5", "step -2.5; a step must be above 0: write -10:25:2.5"),
        ("0:5:0", "step 0; a step must be above 0: write 0:5:1"),
        ("5:0:1", "stops before it starts; write 0:5:1"),
        ("0:5", "'0:5'; give a number or a range"),
        ("high", "give a number or a range"),
        (True, "give a number or a range"),
        ([], "snr_db is empty"),
        ("0:1e9:1", "take a step of 2e.07"),
        ("0:inf:1", "give a number or a range"),
    ],
)
def test_other_ranges_are_refused_with_the_fix(given, message):
    with pytest.raises(SweepError, match=message):
        parse_snrs(given)


def test_a_range_need_not_be_quoted_in_yaml(bits):
    # In YAML 1.1, 0:20:5 is a number to the base of 60.
    bits.write_text(BITS.replace("0:4:2", "0:20:5"))
    assert load_config(bits).curves["coded"].snr_db == (0, 5, 10, 15, 20)
    assert load_config(bits, ["snr_db=-2:0:1"]).curves["coded"].snr_db == (-2, -1, 0)


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_run(name, tmp_path):
    changes = []
    if name == "paper":
        pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'crlsc-phy[baselines]'")
        from crlsc_phy.semantic.deepjscc import DeepJscc

        DeepJscc(8).save(tmp_path / "untrained.safetensors")
        changes = [f"curves.DeepJSCC 1/8.weights={tmp_path / 'untrained.safetensors'}"]
    plan = make_plan(load_config(name, changes))
    check_chains(plan)
    assert plan.points >= 15
    labelled = {sent.name: sent.labels for sent in plan.images}
    assert "astronaut" in labelled["astronaut"]
    # Other pictures of the folder were learnt from.
    assert "koala" not in labelled


def test_what_a_run_writes_down_is_what_it_was(bits, tmp_path):
    for given in (bits, "fading", "mismatch"):
        config = load_config(given, ["seed=7", "channels.flat={model: static, taps: [1, 0.3-0.2j]}"])
        path = tmp_path / "written.yaml"
        path.write_text(yaml.safe_dump(config.plain(), sort_keys=False))
        assert load_config(path) == config


def test_a_line_is_named_by_what_decides_its_results_alone(bits):
    def ids(*changes):
        lines = make_plan(load_config(bits, changes)).lines.values()
        return {(line.curve, line.channel): line.id for line in lines}

    before = ids()
    assert len(set(before.values())) == 3
    for other in ("name=x", "snr_db=1", "stop.errors=5", "keep.replicas=2", "bundle=nowhere", "images.source=nowhere"):
        assert ids(other) == before
    assert not set(ids("seed=2").values()) & set(before.values())
    changed = ids("curves.coded.k=120")
    assert {names for names in before if changed[names] != before[names]} == {("coded", "awgn"), ("coded", "flat")}
    changed = ids("channels.awgn={model: rician-block}")
    assert {names for names in before if changed[names] != before[names]} == {("coded", "awgn")}


def test_lines_of_pictures_are_named_by_bundle_and_pictures_too(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        save_png(tmp_path / f"{name}.png", rng.integers(0, 256, (64, 80, 3), np.uint8))
    text = f"{{snr_db: 5, images: {{source: {tmp_path}}}, curves: {{s: {{chain: semantic}}, c: {{chain: coded}}}}}}"
    (tmp_path / "c.yaml").write_text(text)

    def ids(*changes):
        plan = make_plan(load_config(tmp_path / "c.yaml", changes))
        return {line.curve: line.id for line in plan.lines.values()}

    before = ids()
    for fewer in ("images.count=1", "images.longest=64"):
        after = ids(fewer)
        assert after["s"] != before["s"]
        assert after["c"] == before["c"]


def test_jobs_have_seeds_of_their_own(bits):
    plan = make_plan(load_config(bits))
    jobs = [
        line.job(snr_db, replica, plan.config.keep)
        for line in plan.lines.values()
        for snr_db in line.snr_db
        for replica in range(50)
    ]
    assert len({job.key for job in jobs}) == len({job.trial.seed for job in jobs}) == len(jobs)
    # Neither other SNRs nor other curves bear on them.
    alone = make_plan(load_config(bits, ["snr_db=2", "curves.bare.channels=[awgn]"]))
    line = next(iter(alone.lines.values()))
    assert line.job(2.0, 3, plan.config.keep) in jobs


def test_options_of_the_command_are_for_all_curves(bits):
    config = load_config(bits, ["curves.bare.snr_db=1"], "5,6", ["flat", "rician"])
    assert {curve.snr_db for curve in config.curves.values()} == {(5, 6)}
    assert {curve.channels for curve in config.curves.values()} == {("flat", "rician")}
    assert config.channels["flat"].model == "rayleigh-block"


def test_a_curve_changes_what_it_names(bits):
    config = load_config(bits, ["stop={replicas: 9, errors: 4}", "curves.bare.stop.replicas=3", "curves.bare.air=grid"])
    assert config.curves["bare"].stop == replace(config.curves["coded"].stop, replicas=3)
    assert (config.curves["bare"].air, config.curves["coded"].air) == ("grid", "modem")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stepz=3", "unknown option 'stepz'; choose one of stop, air"),
        ("curves.coded.q=3", "curves.coded: unknown option 'q'; choose one of blocks"),
        ("curves.coded.chain=telepathy", "curves.coded: chain is 'telepathy'; choose one of coded"),
        ("curves.coded.channels=[mars]", "curves.coded: channel 'mars' is unknown; there are awgn, flat"),
        ("curves.coded.rate=2", "curves.coded: rate is 2; it must be 1 or less"),
        ("curves.coded.air=vacuum", "air is 'vacuum'; it must be 'modem' or 'grid'"),
        ("curves.coded.stop={replicas: 0}", "curves.coded: stop.replicas is 0; it must be 1 or more"),
        ("curves.twin={chain: coded, k: 100, blocks: 5}", "is the same as 'coded' over"),
        ("curves={}", "curves is {}; give 1 or more"),
        (
            "channels.awgn.model=ether",
            "channels.awgn is {'model': 'ether'}; channel model 'ether' is unknown; choose one of awgn",
        ),
        ("channels.awgn.snr_db=3", "leave out snr_db; each point of the sweep sets it"),
        ("channels.awgn.speed=-1", "channels.awgn.speed is -1; it must be 0 or more"),
        ("channels.awgn={model: replay, cir: none.npz}", "there is no file none.npz"),
        ("channels.awgn={model: tdl-a}", "channel model 'tdl-a' needs a waveform; set air: grid"),
        ("snr_db=3:1:-1", "a step must be above 0: write 1:3:1"),
        ("stop.measure=joy", "stop.measure is 'joy'; choose one of '', ber"),
        ("stop.replicas=many", "stop.replicas is 'many'; it must be a whole number"),
        ("seed=-1", "seed is -1; it must be 0 or more"),
        ("curves.s={chain: semantic}", "give a folder or a data set as images.source or --images"),
        ("keep=3", "keep is 3; it must be a mapping of options"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(bits, tmp_path, capsys, change, message):
    assert main(["run", str(bits), "--out", str(tmp_path / "out"), "--set", change]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--bundle", "nowhere"],
            "bundle nowhere: holds no manifest.json; give the folder of a bundle as bundle or --bundle",
        ),
        (["--images", "nowhere"], "images: nowhere: no such folder"),
        (["--images", "EMPTY"], "holds no image"),
        (["--images", "photos@heldout", "--data", "nowhere"], "run crlsc-train data"),
        (["--set", "images.longest=16"], "sides must be within"),
        (["--set", "curves.hybrid 1/12.cbr=0.001"], "cbr is too low for picture"),
        (["--jobs", "-1"], "jobs is -1; it must be 0 or more"),
    ],
)
def test_missing_bundles_pictures_and_rates_that_cannot_fit_are_refused(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty") if each == "EMPTY" else each for each in arguments]
    assert main(["run", "quick", "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_such_configuration(tmp_path, capsys):
    assert main(["run", "quik", "--out", str(tmp_path / "out")]) == 2
    assert "presets are fading, mismatch, paper" in capsys.readouterr().err


def test_a_folder_without_index_has_no_held_out_pictures(tmp_path, capsys):
    save_png(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    given = ["--set", f"images.source={tmp_path}", "images.heldout=true"]
    assert main(["show", "quick", *given]) == 2
    assert "index.json marks no picture as held out; set heldout: false" in capsys.readouterr().err
