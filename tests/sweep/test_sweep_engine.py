"""Sweeps as they run: the same results whatever happens to the processes, and nothing lost or done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest

from crlsc_phy.cli.sweep import main
from crlsc_phy.errors import SweepError
from crlsc_phy.link.chain import CHAINS, ChainKind
from crlsc_phy.sweep.config import load_config
from crlsc_phy.sweep.engine import run_sweep
from crlsc_phy.sweep.plan import make_plan
from crlsc_phy.sweep.store import open_store

# The points of `coded` stop at different replicas.
BITS = """
snr_db: [0, 1, 2]
channels: {flat: {model: rayleigh-block}}
curves: {coded: {chain: coded, k: 100, blocks: 5}, bare: {chain: coded, k: 100, blocks: 5, rate: 1, snr_db: 9}}
stop: {replicas: 40, errors: 30}
"""


@pytest.fixture
def bits(tmp_path):
    path = tmp_path / "bits.yaml"
    path.write_text(BITS)
    return path


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A configuration with a curve that goes wrong."""
    monkeypatch.setitem(CHAINS, "faults", ChainKind("faults:FaultsChain", "", "bler", images=False))

    def make(**options):
        (tmp_path / "marks").mkdir()
        curve = json.dumps({"chain": "faults", "folder": str(tmp_path / "marks"), **options})
        path = tmp_path / "faulty.yaml"
        path.write_text(f"{{snr_db: [0, 3], curves: {{faulty: {curve}}}, stop: {{replicas: 6}}}}")
        return path

    return make


def run(config, folder, *changes, jobs=0, **how):
    """Run in this process, unless ``jobs`` says otherwise."""
    return run_sweep(make_plan(load_config(config, changes)), folder, jobs, **how)


def rows(folder):
    """The rows in the order in which they were written."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def found(folder):
    """What was found, whatever it took."""
    kept = ("job", "line", "curve", "channel", "snr_db", "replica", "counts", "image", "error")
    return sorted(json.dumps({name: row[name] for name in kept if name in row}) for row in rows(folder))


def command(config, folder, *more):
    arguments = [sys.executable, "-m", "crlsc_phy.cli.sweep", "run", str(config), "--out", str(folder), "--no-report"]
    # Where a shell has put the tests into the background, they and their children would not hear of Ctrl-C.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*arguments, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)


def wait_for_rows(folder, count, process):
    path = folder / "results.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < count):
        time.sleep(0.01)


def wait_for_end(pids):
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and "Z (" not in state(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes live on without the run that started them"
        time.sleep(0.05)


def state(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "Z ("


def test_one_process_and_two_find_the_same_and_stop_alike(bits, tmp_path):
    one, two = run(bits, tmp_path / "one"), run(bits, tmp_path / "two", jobs=2)
    assert found(tmp_path / "one") == found(tmp_path / "two")
    assert one.ran == two.ran == len(rows(tmp_path / "two"))
    points = {}
    for row in rows(tmp_path / "two"):
        points.setdefault((row["curve"], row["snr_db"]), []).append(row)
    assert len({len(point) for point in points.values()}) > 1
    for point in points.values():
        # In their order, and not one more than was needed.
        assert [row["replica"] for row in point] == list(range(len(point)))
        errors = [row["counts"]["block_errors"] for row in point]
        assert sum(errors[:-1]) < 30
        assert sum(errors) >= 30 or len(point) == 40


def test_a_fast_process_does_not_stop_a_point_before_a_slow_one_has_counted(faulty, tmp_path):
    config = faulty(how="slow", replica=0)
    run(config, tmp_path / "two", "stop.errors=5", "stop.replicas=30", jobs=2)
    run(config, tmp_path / "one", "stop.errors=5", "stop.replicas=30")
    assert found(tmp_path / "one") == found(tmp_path / "two")
    assert next(row["replica"] for row in rows(tmp_path / "two") if row["snr_db"] == 0) == 0


def test_kills_lose_nothing_and_repeat_nothing(bits, tmp_path):
    run(bits, tmp_path / "whole", "stop.errors=0")
    total, rng = len(rows(tmp_path / "whole")), random.Random(1)
    folder, kills = tmp_path / "killed", 0
    for count, jobs in zip(sorted(rng.sample(range(1, total - 20), 3)), "210", strict=True):
        process = command(bits, folder, "--jobs", jobs, "--set", "stop.errors=0")
        wait_for_rows(folder, count, process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        wait_for_end(children)
        assert len(rows(folder)) < total
    assert kills == 3
    run(bits, folder, "stop.errors=0")
    assert found(folder) == found(tmp_path / "whole")


def test_an_interrupted_run_ends_at_once_and_goes_on(bits, tmp_path):
    folder = tmp_path / "out"
    process = command(bits, folder, "--set", "stop.errors=0", "stop.replicas=4000")
    wait_for_rows(folder, 3, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert process.stderr.read() == "crlsc-sweep: interrupted\n"
    before = rows(folder)
    assert len(before) >= 3
    again = run(bits, folder, "stop.errors=0", "stop.replicas=5", "snr_db=0")
    assert rows(folder)[: len(before)] == before
    assert again.known == min(5, len(before))


def test_more_points_replicas_and_curves_change_no_row_that_is_there(bits, tmp_path):
    folder = tmp_path / "out"
    run(bits, folder, "stop.errors=0", "stop.replicas=3", "snr_db=1")
    before = (folder / "results.jsonl").read_bytes()
    more = ("stop.errors=0", "stop.replicas=4", "snr_db=0:2:1", "curves.new={chain: coded, k: 60, blocks: 3}")
    summary = run(bits, folder, *more)
    assert (folder / "results.jsonl").read_bytes().startswith(before)
    assert summary.known == before.count(b"\n")
    run(bits, tmp_path / "at once", *more)
    assert found(folder) == found(tmp_path / "at once")
    assert run(bits, folder, *more).ran == 0


def test_results_of_another_configuration_are_refused(bits, tmp_path, capsys):
    folder = tmp_path / "out"
    run(bits, folder, "stop.replicas=1")
    before = (folder / "results.jsonl").read_bytes()
    for change, message in (
        ("seed=2", "holds results of 'coded' over 'flat' by another configuration"),
        ("curves={other: {chain: coded, k: 100, blocks: 5}}", "holds 'other' over 'flat' as 'coded' over 'flat'"),
    ):
        assert main(["run", str(bits), "--out", str(folder), "--set", change]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    assert main(["run", str(bits), "--out", str(tmp_path / "other")]) == 2
    assert "holds other files and no config.yaml" in capsys.readouterr().err
    assert (folder / "results.jsonl").read_bytes() == before


def test_a_torn_row_is_made_anew(bits, tmp_path):
    run(bits, tmp_path / "whole")
    folder = tmp_path / "torn"
    run(bits, folder)
    content = (folder / "results.jsonl").read_bytes()
    (folder / "results.jsonl").write_bytes(content[:-30])
    assert run(bits, folder).ran == 1
    assert found(folder) == found(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(bits, tmp_path, capsys):
    with open_store(tmp_path / "out", make_plan(load_config(bits))):
        assert main(["run", str(bits), "--out", str(tmp_path / "out")]) == 2
    assert "another run is writing there" in capsys.readouterr().err


def test_a_job_that_fails_once_is_run_again(faulty, tmp_path):
    assert run(faulty(how="error", times=1), tmp_path / "out").failed == 0
    assert len(rows(tmp_path / "out")) == 12


def test_a_job_that_fails_twice_is_recorded_and_the_rest_goes_on(faulty, tmp_path, capsys):
    config, folder = faulty(how="error", times=2), tmp_path / "out"
    arguments = ["run", str(config), "--out", str(folder), "--no-report", "--jobs", "0"]
    assert main(arguments) == 1
    assert f"2 jobs failed; their errors are in {folder / 'results.jsonl'}" in capsys.readouterr().err
    failed = [row for row in rows(folder) if "error" in row]
    assert sorted((row["snr_db"], row["replica"]) for row in failed) == [(0, 1), (3, 1)]
    assert {row["error"] for row in failed} == {"RuntimeError: a fault in two lines"}
    assert len(rows(folder)) == 12
    # By now the fault is mended: the same command tries them again.
    assert main(arguments) == 0
    assert sorted((row["snr_db"], row["replica"]) for row in rows(folder)[12:]) == [(0, 1), (3, 1)]
    assert not any("error" in row for row in rows(folder)[12:])


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_job_that_has_its_process_killed_is_found_and_recorded(faulty, tmp_path, jobs):
    config, folder = faulty(how="kill"), tmp_path / "out"
    summary = run(config, folder, "snr_db=0", jobs=jobs)
    assert (summary.ran, summary.failed) == (6, 1)
    failed = [row for row in rows(folder) if "error" in row]
    assert [row["replica"] for row in failed] == [1]
    assert "its process was killed twice" in failed[0]["error"]
    assert sorted(row["replica"] for row in rows(folder)) == list(range(6))


def test_a_process_that_is_killed_once_costs_nothing(faulty, tmp_path):
    assert run(faulty(how="kill", times=1), tmp_path / "out", "snr_db=0", jobs=1).failed == 0
    assert len(rows(tmp_path / "out")) == 6


def test_pictures_are_kept_where_asked_for_and_rounds_of_pictures_are_whole(tmp_path, bundle_folder, image_folder):
    (tmp_path / "c.yaml").write_text(
        f"""
bundle: {bundle_folder}
images: {{source: {image_folder}, longest: 64, count: 2, heldout: true}}
snr_db: [5, 30]
curves: {{semantic: {{chain: semantic}}}}
stop: {{replicas: 6, half_width: 100}}
keep: {{snr_db: [30], replicas: 1}}
"""
    )
    folder = tmp_path / "out"
    assert main(["run", str(tmp_path / "c.yaml"), "--out", str(folder), "--no-report", "--json", "--jobs", "0"]) == 0
    # The interval is known after a round, never before.
    assert sorted((row["snr_db"], row["replica"]) for row in rows(folder)) == [(5, 0), (5, 1), (30, 0), (30, 1)]
    kept = [row["job"] for row in rows(folder) if row["snr_db"] == 30 and row["replica"] == 0]
    assert [path.stem for path in (folder / "pictures").iterdir()] == kept
    assert sorted(path.stem for path in (folder / "originals").iterdir()) == ["astronaut", "brushes"]


def test_show_tells_what_would_run(bits, capsys):
    assert main(["show", str(bits), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["lines"], shown["points"], shown["jobs"]) == (2, 4, 160)
    assert shown["seconds"] == pytest.approx(sum(row["jobs"] * row["seconds_a_job"] for row in shown["each"]))
    assert main(["show", str(bits)]) == 0
    assert "2 lines, 4 points, at most 160 jobs" in capsys.readouterr().out


def test_names_and_units_in_tables_are_no_markup(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("{snr_db: 9, curves: {'a [genie] :x:': {chain: coded, k: 100, blocks: 1}}}")
    assert main(["show", str(tmp_path / "c.yaml")]) == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert "Es/N0 [dB]" in head
    assert "a [genie] :x:" in row


def test_list_names_what_there_is(capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"quick", "paper"} < set(listed["presets"])
    assert "tdl-a" in listed["channels"]
    assert listed["chains"]["coded"]["options"]["k"] == 1024
    assert set(listed["chains"]) == set(CHAINS)


def test_no_cluster_where_there_is_none(bits, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'crlsc-phy[ray]'")
    with pytest.raises(SweepError, match="no cluster answers there"):
        run(bits, tmp_path / "out", ray="127.0.0.1:1")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["error", "kill"])
def test_a_ray_cluster_finds_the_same(faulty, tmp_path, monkeypatch, how):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'crlsc-phy[ray]'")
    # A cluster's processes have no path from here.
    monkeypatch.setenv("PYTHONPATH", str(Path(faults.__file__).parent), prepend=os.pathsep)
    config = faulty(how=how, replica=2)
    summary = run(config, tmp_path / "ray", jobs=2, ray="local")
    assert (summary.ran, summary.failed) == (12, 2)
    assert {row["replica"] for row in rows(tmp_path / "ray") if "error" in row} == {2}
    run(config, tmp_path / "here", jobs=2)
    whole = [[row for row in found(folder) if '"error"' not in row] for folder in (tmp_path / "ray", tmp_path / "here")]
    assert len(whole[0]) == 10
    assert whole[0] == whole[1]
