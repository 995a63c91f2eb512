"""Steps are skipped, refused, resumed and shared between processes, on real loops of a tiny recipe."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file

from crlsc_phy.cli.train import main

LOOP = ("decoder.alone.steps=120", "decoder.alone.check_every=20")


@pytest.fixture(scope="module")
def begun(tiny_data, tiny_recipe, tmp_path_factory):
    """A run whose coder is trained as far as it goes without the other stages, and the command for it."""
    folder = tmp_path_factory.mktemp("steps") / "run"
    command = ["decoder", str(tiny_recipe), "--data", str(tiny_data), "--run", str(folder), "--set", *LOOP]
    assert main(command) == 2
    return folder, command


def _results(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_a_step_without_what_it_needs_names_the_stage_to_run(begun, capsys):
    folder, command = begun
    before = _results(folder)
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "decoder/alone: already finished" in told
    assert "decoder/reconstruction: needs" in told
    assert told.rstrip().endswith("run crlsc-train skb")
    assert _results(folder) == before


def test_other_options_are_refused_and_nothing_is_overwritten(begun, capsys):
    folder, command = begun
    before = _results(folder)
    assert main([*command, "decoder.alone.batch=5"]) == 2
    assert "was made with loop.batch 4, now 5; use --force to replace it" in capsys.readouterr().err
    assert _results(folder) == before


def test_force_makes_it_anew_with_the_same_result(begun):
    folder, command = begun
    path = folder / "decoder/alone/detail.safetensors"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert main([*command, "--force"]) == 2
    assert path.stat().st_mtime_ns > stamp
    assert path.read_bytes() == before


def test_a_damaged_stamp_is_one_line(begun, tmp_path, capsys):
    folder, command = begun
    other = tmp_path / "run"
    (other / "decoder/alone").mkdir(parents=True)
    (other / "decoder/alone/done.json").write_text("{")
    command = [str(other) if part == str(folder) else part for part in command]
    assert main(command) == 2
    assert "done.json: is damaged" in capsys.readouterr().err


def test_killed_at_any_moment_it_ends_with_the_same_weights(begun, tmp_path):
    folder, command = begun
    other = tmp_path / "run"
    arguments = [str(other) if part == str(folder) else part for part in command]
    work = other / "decoder/alone/work"
    for kill in range(2):
        with subprocess.Popen(
            [sys.executable, "-m", "crlsc_phy.cli.train", *arguments], stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                if (work / "last.ckpt").exists() and _steps(work) >= 40 * (kill + 1):
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.01)
            assert process.wait() in (-signal.SIGKILL, 2)
    assert main(arguments) == 2
    wanted, found = (load_file(run / "decoder/alone/detail.safetensors") for run in (folder, other))
    assert set(wanted) == set(found)
    for name, tensor in wanted.items():
        assert (tensor == found[name]).all(), name


def _steps(work) -> int:
    import torch

    try:
        return int(torch.load(work / "last.ckpt", weights_only=True)["global_step"])
    except (OSError, RuntimeError, EOFError):
        return 0


def test_a_loop_that_gets_no_better_ends_early(tiny_data, tiny_recipe, tmp_path):
    options = ["decoder.alone.learning_rate=0.0", "decoder.alone.patience=2", "decoder.alone.check_every=10"]
    command = ["decoder", str(tiny_recipe), "--data", str(tiny_data), "--run", str(tmp_path / "run")]
    assert main([*command, "--set", "decoder.alone.steps=500", *options]) == 2
    assert (tmp_path / "run/decoder/alone/done.json").exists()
    assert _steps(tmp_path / "run/decoder/alone/work") < 200


@pytest.mark.slow
def test_two_processes_train_one_bundle(tiny_data, tiny_recipe, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    command += ["-m", "crlsc_phy.cli.train", "run", str(tiny_recipe), "--data", str(tiny_data)]
    command += ["--work", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"), "--json", "--set", *LOOP]
    command += ["teacher.text={width: 32, loop: {steps: 2, batch: 6}}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["parity"]
    stamps = sorted(
        path.parent.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("done.json")
    )
    assert "decoder/reconstruction" in stamps
    assert {"encoder/wide", "teacher/text"} <= {*stamps}
    # The batches of both go into one gradient, so the weights are others than one process would find.
    assert len(list((tmp_path / "run/decoder/alone/work").rglob("last.ckpt"))) == 1
