"""The shared entry of the commands."""

import os
import subprocess
import sys

import pytest

PROGRAM = r"""
import argparse, sys
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import CrlscError

def run(options):
    print("MS-SSIM \u22120.003 \u00d7 caf\udce9 \u96ea")
    raise CrlscError("\u22121 caf\udce9")

parser = argparse.ArgumentParser(prog="command")
parser.set_defaults(run=run)
sys.exit(run_verb(parser, []))
"""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"MS-SSIM \u22120.003 \xd7 caf\udce9 \u96ea"),
        ("latin-1", r"MS-SSIM \u22120.003 × caf\udce9 \u96ea"),
        ("utf-8", r"MS-SSIM −0.003 × caf\udce9 雪"),
    ],
)
def test_no_terminal_ends_a_command(encoding, shown):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout.decode(encoding).strip()) == (2, shown)
    assert done.stderr.decode(encoding).startswith("command: ")
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_error():
    program = PROGRAM.replace('raise CrlscError("\\u22121 caf\\udce9")', 'print("x" * 10, file=sys.stdout)')
    assert "raise" not in program
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
