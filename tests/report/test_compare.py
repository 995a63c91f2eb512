"""Two runs against each other, curves of other tools, and the verbs of crlsc-sweep that read results."""

import argparse
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_sweep import BITS, IMAGES, OURS, SNRS, WEBP

from crlsc_phy.cli.sweep_report import add_verbs
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import SweepError
from crlsc_phy.report.compare import compare_runs
from crlsc_phy.report.imported import import_curves, read_imported
from crlsc_phy.report.results import read_run

GAIN_DB = 1.5


def crlsc_sweep(*arguments) -> int:
    parser = argparse.ArgumentParser(prog="crlsc-sweep")
    add_verbs(parser.add_subparsers(required=True))
    return run_verb(parser, [str(argument) for argument in arguments])


@pytest.fixture
def changed(sweep_folder, tmp_path) -> Path:
    """The run with better pictures by one curve, and the link of bits under another name."""
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "changed"))
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for row in rows:
        if row["curve"] == OURS and row["snr_db"] == SNRS[1]:
            row["metrics"]["psnr_db"] += GAIN_DB + 0.1 * (row["replica"] % 3)
        if row["curve"] == BITS:
            row["curve"] = "bits"
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_only_what_changed_is_marked(sweep_folder, changed):
    found = compare_runs(sweep_folder, changed)
    assert [(change.curve, change.snr_db) for change in found.changes] == [
        (name, snr_db) for name in (OURS, WEBP) for snr_db in SNRS
    ]
    marked = {(change.curve, change.snr_db): change for change in found.changes if change.difference.significant}
    assert set(marked) == {(OURS, SNRS[1])}
    change = marked[OURS, SNRS[1]].difference
    assert change.value == pytest.approx(GAIN_DB + 0.1 * sum(i % 3 for i in range(IMAGES)) / IMAGES)
    assert change.pairs == IMAGES
    assert GAIN_DB <= change.low < change.value < change.high <= GAIN_DB + 0.2


def test_curves_that_only_one_run_has_are_named(sweep_folder, changed):
    found = compare_runs(sweep_folder, changed, "psnr_db")
    assert (found.only_before, found.only_after) == ((), ())
    with pytest.raises(SweepError, match="share no point with ber"):
        compare_runs(sweep_folder, changed, "ber")
    with pytest.raises(SweepError, match="measure 'speed' is unknown; choose one of ber, bler"):
        compare_runs(sweep_folder, changed, "speed")
    lost = compare_runs(sweep_folder, changed, "frame_loss")
    assert {change.curve for change in lost.changes} == {OURS, WEBP}


def test_verb_compare_prints_json_and_writes_a_page(sweep_folder, changed, tmp_path, capsys):
    source = tmp_path / "paper.csv"
    source.write_text("snr,psnr_db\n0,20\n")
    assert crlsc_sweep("import", source, "--as", "paper", "--out", changed) == 0
    capsys.readouterr()
    page = tmp_path / "compared.html"
    assert crlsc_sweep("compare", sweep_folder, changed, "--json", "--out", page) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["only_after"] == [["paper", "awgn"]]
    assert [point["difference"]["significant"] for point in found["points"]] == [False, True, False, False]
    text = page.read_text()
    assert "analog &lt;1/12&gt; &amp; &#34;co&#34;" in text
    assert text.count("<b>changed</b>") == 1
    assert "paper over awgn" in text
    assert crlsc_sweep("compare", sweep_folder, changed) == 0
    shown = capsys.readouterr().out
    assert "psnr_db: 1 of 4 points have changed" in shown
    assert re.search(r"webp \[genie\] +awgn +8 .* 0\.000 +0\.000 to 0\.000", shown)


def test_verb_compare_refuses_what_is_no_run(sweep_folder, tmp_path, capsys):
    assert crlsc_sweep("compare", sweep_folder, tmp_path / "nowhere") == 2
    assert "holds no config.yaml" in capsys.readouterr().err


def imported(folder, text, name="paper", **options):
    source = folder.parent / "other.csv"
    source.write_text(text, encoding="utf-8")
    import_curves(source, folder, name, **{"channel": "awgn"} | options)
    return {
        line.curve: {(measure, snr): found.value for (measure, snr), found in line.estimates.items()}
        for line in read_imported(folder)
    }


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("snr_db,psnr_db,ms_ssim\n0,20,0.8\n10,25.5,\n", {}),
        ("\ufeffEs/N0 [dB];Q;M\r\n0;20;0.8\r\n10;25.5;nan\r\n", {"columns": {"psnr_db": "Q", "ms_ssim": "M"}}),
        ("SNR\tPSNR_DB\tMS_SSIM\n0\t20\t0.8\n\n10\t25.5\t-\n", {}),
        ("measure,snr_db,value\npsnr_db,0,20\nms_ssim,0,0.8\npsnr_db,10,25.5\n", {}),
    ],
)
def test_the_forms_of_csv_are_read_alike(sweep_folder, text, options):
    expected = {("psnr_db", 0.0): 20.0, ("ms_ssim", 0.0): 0.8, ("psnr_db", 10.0): 25.5}
    assert imported(sweep_folder, text, **options) == {"paper": expected}


def test_a_column_a_curve(sweep_folder):
    found = imported(sweep_folder, "snr;A;B\n0;1e-1;\n5;1e-3;2e-2\n", measure="ber")
    assert found == {"paper: A": {("ber", 0.0): 0.1, ("ber", 5.0): 1e-3}, "paper: B": {("ber", 5.0): 0.02}}


def test_files_that_are_not_utf8_are_refused(sweep_folder):
    source = sweep_folder.parent / "excel.csv"
    for encoding in ("latin-1", "utf-16"):
        source.write_bytes("snr;psnr_db;é\n0;20;1\n".encode(encoding))
        with pytest.raises(SweepError, match=r"excel\.csv: is not UTF-8; save it as CSV in UTF-8"):
            import_curves(source, sweep_folder, "paper", "awgn")


def test_names_may_be_long_and_of_any_script(sweep_folder, monkeypatch):
    names = ["曲線" * 120, "曲線" * 119 + "x", "é" * 100]
    for name in names:
        imported(sweep_folder, "snr,psnr_db\n0,20\n", name)
        imported(sweep_folder, "snr,psnr_db\n0,21\n", name)
    assert sorted(line.curve for line in read_imported(sweep_folder)) == sorted(names)
    # On a Latin-1 terminal the tables of compare are text too, and their numbers can be read back.
    plain = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", plain)
    second = shutil.copytree(sweep_folder, sweep_folder.parent / "second")
    imported(second, "snr,psnr_db\n0,19.25\n", "é" * 100)
    assert crlsc_sweep("compare", sweep_folder, second) == 0
    shown = plain.buffer.getvalue().decode("latin-1")
    assert "-1.75" in shown
    assert "\\u66f2" in shown


def test_our_own_table_can_be_imported_with_its_intervals(sweep_folder):
    text = "curve,channel,snr_db,measure,value,low,high,n\nmine,tdl-a,5,psnr_db,20,19,21,8\n"
    imported(sweep_folder, text)
    (line,) = read_imported(sweep_folder)
    found = line.estimate(5.0, "psnr_db")
    assert (line.curve, line.channel) == ("paper: mine", "tdl-a")
    assert (found.value, found.low, found.high) == (20.0, 19.0, 21.0)
    assert math.isnan(line.estimate(6.0, "psnr_db").value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("snr;psnr_db\n0;20,5\n", {}, r"other\.csv:2: psnr_db is '20,5', not a number; write it with a decimal point"),
        (
            "snr,psnr_db\n0,20,5\n",
            {},
            r"other\.csv:2: has 3 fields, the header has 2; write numbers with a decimal point",
        ),
        ("snr,psnr_db\n0,good\n", {}, "psnr_db is 'good', not a number"),
        ("snr,psnr_db\n0,2_0\n", {}, "psnr_db is '2_0', not a number"),
        ("snr,psnr_db\n,20\n", {}, "has no SNR"),
        ("snr,psnr_db\n0,inf\n", {}, "psnr_db is 'inf'; give a finite number"),
        ("snr,psnr_db\n0,-1e999\n", {}, "psnr_db is '-1e999'; give a finite number"),
        ("snr,psnr_db\n0,+NaN\n", {}, r"psnr_db is '\+NaN'; give a finite number, or nothing where none was measured"),
        ("snr,ber\n0,12\n", {}, "ber is a rate between 0 and 1, not a percentage"),
        ("ebn0,ber\n0,0.1\n", {}, r"no column is known to be the SNR \(Es/N0; convert Eb/N0 first\)"),
        ("snr,quality\n0,1\n", {}, "no column has the name of a measure"),
        ("snr,psnr_db\n0,1\n", {"columns": {"psnr_db": "PSNR"}}, "has no column 'PSNR' for psnr_db"),
        ("snr,A\n0,1\n", {"measure": "beauty"}, "--measure: measure 'beauty' is unknown"),
        ("snr,psnr_db\n0,1\n", {"channel": ""}, "the channel is not known; give --channel NAME"),
        ("snr,psnr_db\n", {}, "holds no values"),
        ("", {}, "needs a header"),
        ("snr,psnr_db\n0,20\n", {"name": "../x"}, r"name '\.\./x' cannot be used; take letters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_hint(sweep_folder, text, options, message):
    with pytest.raises(SweepError, match=message):
        imported(sweep_folder, text, **options)
    assert read_imported(sweep_folder) == []


def test_verb_import_wants_a_channel_of_the_run(sweep_folder, tmp_path, capsys):
    source = tmp_path / "paper.csv"
    source.write_text("snr,Q\n0,20\n")
    arguments = ("import", source, "--as", "paper", "--out", sweep_folder, "--columns", "snr=snr,psnr_db=Q")
    assert crlsc_sweep(*arguments, "--channel", "tdl-z") == 2
    assert "has no channel 'tdl-z'; choose one of awgn" in capsys.readouterr().err
    assert crlsc_sweep(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"imported": [{"curve": "paper", "channel": "awgn", "points": 1}]}
    assert crlsc_sweep(*arguments[:-1], "beauty=Q") == 2
    assert "'beauty' is unknown; choose one of snr" in capsys.readouterr().err


def test_reading_results_needs_no_library_of_reports():
    """Reports are an extra; a run must not fail for it."""
    code = (
        "import sys; sys.modules.update(plotly=None, jinja2=None)\n"
        "import crlsc_phy.cli.sweep_report, crlsc_phy.report.page as page\n"
        "from pathlib import Path\n"
        "try: page.write_page(Path('x.html'), 'report.html')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'crlsc-phy[sweep]'" in done.stdout


def test_names_in_a_run_are_those_of_its_configuration(sweep_folder):
    run = read_run(sweep_folder)
    assert [run.is_own(line.curve) for line in run.lines] == [True, False, False]
