"""Kill -9 at either end, at any moment: the copy and the base stay whole, and what was acknowledged stays."""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import time

import pytest

pytest.importorskip("aiohttp")

from machines import add, make

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.knowledge.folder import StoreFolder
from crlsc_phy.net import publish, pull, serve

KILLS = 200


def pull_quietly(url, path):
    with contextlib.suppress(KnowledgeBaseError):
        pull(url, path)


def publish_and_tell(path, url, names, acknowledged):
    with contextlib.suppress(KnowledgeBaseError):
        merged = publish(KnowledgeBase.open(path), url, names)
        assert merged.added + merged.duplicates == len(names)
        with acknowledged.open("a") as file:
            file.write("".join(f"{name}\n" for name in names))


def serve_quietly(path, port):
    # A server that is killed leaves the port behind; the next one may have to wait for it.
    for _ in range(100):
        with contextlib.suppress(KnowledgeBaseError):
            serve([path], port=port, allow_publish=True)
            return
        time.sleep(0.02)


class Machines:
    """A server and a terminal as processes, to be killed."""

    def __init__(self, served, rng):
        # Forked from a process that has loaded all, so that a kill costs milliseconds.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["crlsc_phy.net", "crlsc_phy.net.kb.server", __name__])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._served, self._rng = served, rng
        self.url = f"http://127.0.0.1:{self._port}/kb/{served.name}"
        self.server = None
        self.kills = 0

    def start_server(self):
        if self.server is None or not self.server.is_alive():
            self.server = self.start(serve_quietly, self._served, self._port)
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("the server does not start")

    def start(self, target, *arguments):
        process = self._context.Process(target=target, args=arguments)
        process.start()
        return process

    def kill(self, process, longest_s):
        """Kill it within some time, unless it ends before."""
        process.join(self._rng.uniform(0, longest_s))
        # It may end between the question and the kill.
        with contextlib.suppress(ProcessLookupError):
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                self.kills += 1
        process.join()

    def stop(self):
        if self.server is not None and self.server.is_alive():
            self.server.terminate()
            self.server.join(10)
            assert self.server.exitcode == 0


@pytest.fixture
def machines(tmp_path):
    made = Machines(tmp_path / "server/skb", random.Random(1))
    yield made
    made.stop()


def whole(path, states):
    """Open and check all of a base; its entries must be those that the server had in that state."""
    base = KnowledgeBase.open(path)
    base._folder.check(base.manifest, thorough=True)
    assert [entry.name for entry in base.entries] == states[base.id]


def names_of(base):
    return [entry.name for entry in base.entries]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pulls_survive_kills_of_terminal_and_server(tmp_path, machines):
    rng, copy = random.Random(2), tmp_path / "copy"
    base = make(tmp_path / "server/skb", 0, 4000)
    states = {base.id: names_of(base)}
    machines.start_server()
    started = time.monotonic()
    # As a process, for starting one takes its time too.
    machines.start(pull_quietly, machines.url, tmp_path / "first").join()
    longest_s = 1.5 * (time.monotonic() - started)
    rounds = midway = 0
    while machines.kills < KILLS:
        rounds += 1
        machines.start_server()
        terminal = machines.start(pull_quietly, machines.url, copy)
        if rounds % 4 == 0:
            time.sleep(rng.uniform(0, longest_s))
            os.kill(machines.server.pid, signal.SIGKILL)
            machines.server.join()
            machines.kills += 1
        machines.kill(terminal, longest_s)
        if StoreFolder(copy).exists():
            whole(copy, states)
        midway += (copy / ".pull").exists()
        if rounds % 3 == 0:
            number = rng.randrange(3)
            if number == 0:
                base.remove([names_of(base)[0]])
            elif number == 1 and len(base) < 4900:
                count = len(states[base.id])
                highest = max(int(name[2:]) for name in states[base.id])
                add(base, highest + 1, highest + 20)
                assert len(base) == count + 19
            else:
                base.compact()
            states[base.id] = names_of(base)
        if rounds % 10 == 0:
            machines.start_server()
            pull(machines.url, copy)
            assert KnowledgeBase.open(copy).id == base.id
            whole(copy, states)
    machines.start_server()
    pull(machines.url, copy)
    whole(copy, states)
    # Otherwise the kills came too late or too early to try anything.
    assert midway >= 3
    assert not (copy / ".pull").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_publishing_survives_kills_of_terminal_and_server(tmp_path, machines):
    rng = random.Random(3)
    make(tmp_path / "server/skb", 0, 1000)
    private = make(tmp_path / "pkb", 1000, 4900)
    names, acknowledged = names_of(private), tmp_path / "acknowledged"
    acknowledged.touch()
    at = 0
    while machines.kills < 60:
        machines.start_server()
        part = names[at : at + 50]
        terminal = machines.start(publish_and_tell, private.path, machines.url, part, acknowledged)
        if rng.random() < 0.5:
            machines.kill(machines.server, 0.2)
        machines.kill(terminal, 0.3)
        shared = KnowledgeBase.open(tmp_path / "server/skb")
        shared._folder.check(shared.manifest, thorough=True)
        there = names_of(shared)
        assert len(there) == len(set(there))
        # A line may be cut short by a kill.
        lines = acknowledged.read_text().splitlines(keepends=True)
        assert {line.strip() for line in lines if line.endswith("\n")} <= set(there)
        # All of a parcel or nothing.
        assert len(set(part) & set(there)) in (0, len(part))
        at = (at + 50) % len(names) if part[0] in there else at
    assert acknowledged.read_text()
