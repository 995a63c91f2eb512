"""Rows of a run as points with intervals, and curves against each other."""

import json
import math

import numpy as np
import pytest
import yaml
from small_sweep import BITS, IMAGES, OURS, SNRS, WEBP

from crlsc_phy.errors import SweepError
from crlsc_phy.quality.intervals import bootstrap, wilson
from crlsc_phy.report.differences import Difference, difference, standings
from crlsc_phy.report.results import LineResults, Point, Result, read_run


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def line_of(run, curve):
    (line,) = [line for line in run.lines if line.curve == curve]
    return line


def result(replica, image="a", counts=None, **metrics):
    return Result(f"job {replica}", "line", "curve", "awgn", 0.0, replica, counts or {}, image, metrics, 1.0, 2.0)


def test_points_hold_what_the_rows_say(finished_sweep):
    run = read_run(finished_sweep)
    assert [line.curve for line in run.lines] == [OURS, WEBP, BITS]
    rows = [row for row in rows_of(finished_sweep) if row["curve"] == OURS and row["snr_db"] == SNRS[1]]
    values = [row["metrics"]["psnr_db"] for row in rows]
    found = line_of(run, OURS).estimate(SNRS[1], "psnr_db")
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(bootstrap(values))
    assert found.low < found.value < found.high
    assert (found.n, found.events) == (IMAGES, None)
    point = line_of(run, OURS).points[SNRS[1]]
    assert point.counts["frames"] == IMAGES
    assert point.cpu_s == pytest.approx(sum(row["cpu_s"] for row in rows))


def test_counts_are_rates_with_their_events(finished_sweep):
    rows = [row["counts"] for row in rows_of(finished_sweep) if row["curve"] == BITS and row["snr_db"] == 0.0]
    errors, blocks = (sum(row[name] for row in rows) for name in ("block_errors", "blocks"))
    found = line_of(read_run(finished_sweep), BITS).estimate(0.0, "bler")
    assert (found.value, found.n, found.events) == (errors / blocks, blocks, errors)
    assert found.low < found.value < found.high


def test_what_was_not_simulated_is_nan(finished_sweep):
    run = read_run(finished_sweep)
    assert math.isnan(line_of(run, BITS).estimate(0.0, "psnr_db").value)
    planned = line_of(run, OURS).estimate(12.0, "psnr_db")
    assert line_of(run, OURS).snrs == (0.0, 8.0, 12.0)
    assert math.isnan(planned.value)
    assert math.isnan(planned.low)
    assert planned.n == 0


def test_a_row_cut_off_at_the_end_is_left_out(sweep_folder):
    whole = list(read_run(sweep_folder).results)
    path = sweep_folder / "results.jsonl"
    content = path.read_bytes()
    # Wherever the last row is cut, before its end of line too.
    last = content[:-1].rfind(b"\n") + 1
    for end in (last + 1, (last + len(content)) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        assert len(list(read_run(sweep_folder).results)) == len(whole) - 1


@pytest.mark.parametrize(
    "damage",
    [
        b'{"job": "x"',
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"job": "x", "line": "y", "curve": "c", "channel": "awgn", "snr_db": NaN, "replica": 0, "error": "e"}',
        b'{"job": "x", "line": "y", "curve": "c", "channel": "awgn", "snr_db": 1, "replica": 0, "counts": {}}',
        b'{"job": "x", "line": "y", "curve": "c", "channel": "awgn", "snr_db": 1, "replica": 0, "counts": {}, "image": '
        b'"a", "metrics": {"psnr_db": 1e999}, "cpu_s": 1, "wall_s": 1}',
    ],
)
def test_a_damaged_row_is_named_by_its_line(sweep_folder, damage):
    path = sweep_folder / "results.jsonl"
    lines = path.read_bytes().splitlines()
    lines[4] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(SweepError, match=r"results\.jsonl:5: .*damaged"):
        read_run(sweep_folder)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(SweepError, match=r"holds no config\.yaml"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("- a\n")
    with pytest.raises(SweepError, match=r"config\.yaml: is damaged"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("channels: {}\ncurves: {}\n")
    with pytest.raises(SweepError, match=r"holds no results\.jsonl"):
        read_run(tmp_path)


def test_two_configurations_under_one_name_are_refused(sweep_folder):
    rows = rows_of(sweep_folder)
    rows[0] |= {"line": "another"}
    (sweep_folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SweepError, match="two configurations"):
        read_run(sweep_folder)


def test_a_failed_job_is_listed_until_it_is_done(sweep_folder):
    row = rows_of(sweep_folder)[0]
    failed = {key: row[key] for key in ("job", "line", "curve", "channel", "snr_db", "replica")}
    with (sweep_folder / "results.jsonl").open("a") as file:
        for job in (row["job"], "f" * 20, "f" * 20):
            file.write(json.dumps(failed | {"job": job, "error": "worker killed"}) + "\n")
    run = read_run(sweep_folder)
    assert [(failure.job, failure.error) for failure in run.failures] == [("f" * 20, "worker killed")]


def test_a_job_counts_once_however_often_its_row_is_there(sweep_folder):
    path = sweep_folder / "results.jsonl"
    before = list(read_run(sweep_folder).results)
    path.write_bytes(path.read_bytes() * 2)
    assert list(read_run(sweep_folder).results) == before


def test_lines_of_an_earlier_configuration_are_set_apart(sweep_folder):
    path = sweep_folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["curves"][WEBP]
    config["curves"][BITS]["channels"] = ["rayleigh"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    run = read_run(sweep_folder)
    assert {line.curve for line in run.lines} == {OURS, WEBP, BITS}
    assert [line.curve for line in run.configured().lines] == [OURS]


def test_replicas_of_one_picture_are_no_new_evidence():
    once = Point(tuple(result(i, f"image {i}", label=float(i % 2)) for i in range(8)))
    often = Point(tuple(result(i, f"image {i % 8}", label=float(i % 2)) for i in range(80)))
    one, many = once.estimate("label"), often.estimate("label")
    assert (one.low, one.high) == pytest.approx(wilson(4, 8))
    assert (many.value, many.n, many.events) == (0.5, 80, 40)
    # With the same outcome in each replica the interval stays that of eight pictures.
    assert many.high - many.low > 0.85 * (one.high - one.low)
    certain = Point(tuple(result(i, f"image {i % 8}", label=1.0) for i in range(80))).estimate("label")
    assert (certain.low, certain.high) == pytest.approx(wilson(8, 8))


def test_one_picture_says_nothing_of_others():
    found = Point(tuple(result(i, "one", psnr_db=20.0 + i) for i in range(9))).estimate("psnr_db")
    assert found.value == pytest.approx(24.0)
    assert math.isnan(found.low)


def test_zero_errors_keep_their_count():
    counts = {"blocks": 100, "block_errors": 0}
    point = Point(tuple(result(i, None, counts) for i in range(3)))
    assert point.counts == {"blocks": 300, "block_errors": 0}
    assert point.estimate("bler").high == pytest.approx(wilson(0, 300)[1])


def line(curve, values, images=None):
    rows = [result(i, f"image {i if images is None else images[i]}", psnr_db=value) for i, value in enumerate(values)]
    return LineResults(curve, "awgn", "id", {0.0: Point(tuple(rows))})


def test_pictures_are_compared_one_by_one():
    generator = np.random.default_rng(1)
    base = 25 + 6 * generator.normal(size=12)
    gain = 1 + 0.2 * generator.normal(size=12)
    one, other = line("a", base + gain), line("b", base)
    paired = difference(one, other, 0.0, "psnr_db")
    assert paired.pairs == 12
    assert paired.value == pytest.approx(gain.mean())
    assert paired.low < gain.mean() < paired.high
    assert paired.significant
    # Other pictures: the spread between them hides a difference of 1 dB.
    apart = difference(one, line("b", base, range(100, 112)), 0.0, "psnr_db")
    assert apart.pairs == 0
    assert apart.value == pytest.approx(gain.mean())
    assert not apart.significant


def test_few_pictures_prove_nothing():
    assert not difference(line("a", [30.0, 31, 32, 33, 34]), line("b", [20.0, 21, 22, 23, 24]), 0.0, "psnr_db").tested
    assert not Difference(3.0, math.nan, math.nan).tested


def test_standings_say_who_leads_and_by_how_much(finished_sweep):
    run = read_run(finished_sweep)
    pictures = [found for found in run.lines if found.curve != BITS]
    rows = standings(pictures, {OURS: True, WEBP: False}, "psnr_db")
    assert [row.snr_db for row in rows] == list(SNRS)
    for row in rows:
        ours, theirs = (line_of(run, name).estimate(row.snr_db, "psnr_db").value for name in (OURS, WEBP))
        assert row.leaders == ((OURS,) if ours > theirs else (WEBP,))
        assert row.margin.value == pytest.approx(ours - theirs)
        assert row.margin.pairs == IMAGES
        assert row.verdict == (
            "level" if row.margin.low <= 0 <= row.margin.high else "ahead" if ours > theirs else "behind"
        )


def test_a_lead_in_few_pictures_is_no_more_than_that():
    (row,) = standings([line("a", [20.0, 21, 22]), line("b", [25.0, 26, 27])], {"a": True, "b": False}, "psnr_db")
    assert (row.leaders, row.verdict) == (("b",), "behind, untested")


def test_lower_is_better_where_it_is():
    def bits(curve, errors):
        counts = {"blocks": 1000, "block_errors": errors}
        return LineResults(curve, "awgn", "id", {0.0: Point((result(0, None, counts),))})

    (row,) = standings([bits("a", 10), bits("b", 200)], {"a": True, "b": False}, "bler")
    assert row.leaders == ("a",)
    assert row.margin.value == pytest.approx(0.19)
    assert row.verdict == "ahead"
