"""The examples in the guides and at the main doors run as they stand."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("guide", "expected"),
    [
        ("README.md", r"\w.* \(\d+, \d+, 3\) -?\d+\.\d"),
        ("docs/blocks.md", r"'images': 1, 'lost': 0"),
        ("docs/codec.md", r"^$"),
        ("docs/knowledge.md", r"^$"),
    ],
)
def test_example_runs(guide, expected, tmp_path):
    (example, *_) = re.findall(r"```python\n(.*?)```", (ROOT / guide).read_text(encoding="utf-8"), re.DOTALL)
    for name in ("models", "flowgraphs"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout.strip()), done.stdout


@pytest.mark.parametrize("door", ["codec", "frame", "phy.modem", "channel.stream", "knowledge.local", "errors"])
def test_the_examples_of_a_door_run(door, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(f"crlsc_phy.{door}"))
    assert found.attempted > 0
    assert found.failed == 0
