"""serve, pull and publish as commands, between processes."""

import argparse
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from crlsc_phy.cli import kb_net
from crlsc_phy.errors import CrlscError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase

CODE = AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))
START = """
import argparse, sys
from crlsc_phy.cli import kb_net
parser = argparse.ArgumentParser()
kb_net.add_parsers(parser.add_subparsers())
options = parser.parse_args()
sys.exit(options.run(options))
"""


def make(path, names):
    vectors = np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32)[: len(names)]
    return KnowledgeBase.create(path, CODE, vectors, [Entry(name, name[0]) for name in names])


def run(*arguments):
    parser = argparse.ArgumentParser()
    kb_net.add_parsers(parser.add_subparsers())
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.run(options)


@pytest.fixture
def server():
    """Start ``serve``; what it says when it is ready."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", START, "serve", "--port", "0", "--json", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name != kb_net.TOKEN}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return started[-1], json.loads(started[-1].stdout.readline())["serving"]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_one_machine_to_the_other_and_back(tmp_path, server, capsys, monkeypatch, number):
    make(tmp_path / "skb", ["cat", "dog", "car"])
    private = make(tmp_path / "pkb", ["cat", "dog", "car", "bus", "cow"])
    (tmp_path / "token").write_text("secret\n")
    process, addresses = server(tmp_path / "skb", "--allow-publish", "--token-file", tmp_path / "token")
    url = addresses["skb"]

    with pytest.raises(CrlscError, match="--token-file or CRLSC_KB_TOKEN"):
        run("pull", url, tmp_path / "copy")
    monkeypatch.setenv(kb_net.TOKEN, "secret")
    assert run("pull", url, tmp_path / "copy") == 0
    assert "generation 1, 3 entries" in capsys.readouterr().out
    assert run("pull", url, tmp_path / "copy") == 0
    assert "up to date" in capsys.readouterr().out

    assert run("publish", tmp_path / "pkb", url, "--label", "b", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"added": 1, "duplicates": 0, "alike": []}
    assert run("publish", tmp_path / "pkb", url, "--names", "cow", "cat") == 0
    assert "1 added, 1 duplicates left out" in capsys.readouterr().out
    assert run("pull", url, tmp_path / "copy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 5
    assert KnowledgeBase.open(tmp_path / "copy").entry("bus").origin == f"pkb@{private.id[:12]}/bus"

    process.send_signal(number)
    assert process.wait(10) == 0


def test_what_the_user_got_wrong_is_said(tmp_path):
    make(tmp_path / "pkb", ["cat"])
    with pytest.raises(CrlscError, match="holds no knowledge base"):
        run("serve", tmp_path / "none")
    with pytest.raises(CrlscError, match="set a token"):
        run("serve", tmp_path / "pkb", "--host", "0.0.0.0")
    with pytest.raises(CrlscError, match="no entry with the label 'x'"):
        run("publish", tmp_path / "pkb", "http://127.0.0.1:9/kb/skb", "--label", "x")
    with pytest.raises(CrlscError, match="token: cannot be read"):
        run("pull", "http://127.0.0.1:9/kb/skb", tmp_path / "copy", "--token-file", tmp_path / "token")
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(CrlscError, match="is empty"):
        run("pull", "http://127.0.0.1:9/kb/skb", tmp_path / "copy", "--token-file", tmp_path / "token")
    for port in ("-1", "65536", "x"):
        with pytest.raises(SystemExit):
            run("serve", tmp_path / "pkb", "--port", port)


def test_says_how_to_get_what_is_missing(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("crlsc_phy.net")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("crlsc_phy.net", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(CrlscError, match=r"pip install 'crlsc-phy\[net\]'"):
        run("pull", "http://127.0.0.1:9/kb/skb", tmp_path / "copy")
