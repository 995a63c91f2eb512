from __future__ import annotations

import json
import platform
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

from crlsc_phy.cli.doctor import PARTS, main, try_together

ROOT = Path(__file__).resolve().parents[2]


def test_this_environment_is_healthy(capsys):
    pytest.importorskip("gnuradio", reason="GNU Radio is not importable here; `make setup` installs it")
    assert main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    checks = report["checks"]
    assert checks["Python"]["found"] == platform.python_version()
    assert checks["numpy"]["found"] == metadata.version("numpy")
    assert checks["GNU Radio"]["found"].startswith("3.")
    assert checks["together"]["ok"]
    assert list(checks) == ["Python", *(part.name for part in PARTS), "together"]


def test_a_bare_python_is_told_what_to_do(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    result = subprocess.run(
        [tmp_path / "bare/bin/python", "-m", "crlsc_phy.cli.doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == ""
    assert "torch is not installed" in result.stdout
    assert "run make setup" in result.stdout


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "import os, signal; print('faiss', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
            "faiss crashed (signal 11)",
        ),
        ("print('torch', flush=True); import no_such_module_here", "torch: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "Python: exit status 3"),
    ],
)
def test_what_ends_the_joint_process_is_named(code, problem):
    assert try_together([], code)[1].startswith(problem)


def test_a_module_that_does_not_import_is_named():
    lines, problem = try_together(["json", "no_such_module_here", "sys"])
    assert lines == ["json", "no_such_module_here"]
    assert "no_such_module_here" in problem


def test_the_program_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "crlsc_phy.cli.doctor", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "--json" in result.stdout
