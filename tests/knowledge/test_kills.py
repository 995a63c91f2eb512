"""Kill -9 while a process adds, merges, removes and compacts: the base stays whole, what was acknowledged stays."""

import json
import multiprocessing
import os
import random
import signal

import numpy as np
import pytest

from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase

KILLS = 320
CODE = AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))
VECTORS = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32)
OWN, OTHERS = [f"e/{i}" for i in range(300)], [f"m/{i}" for i in range(300, 600)]


def entries_and_vectors(names):
    rows = [int(name[2:]) for name in names]
    return VECTORS[rows], [
        Entry(name, f"label {row % 7}", caption="x" * row) for name, row in zip(names, rows, strict=True)
    ]


def work(path, other_path, journal, seed):
    """Change the base without end; each change is announced in the journal before, and acknowledged after."""
    rng, file = random.Random(seed), os.open(journal, os.O_WRONLY | os.O_APPEND)
    base, other = KnowledgeBase.open(path), KnowledgeBase.open(other_path)
    while True:
        there = {entry.name for entry in base.entries}
        what = rng.choice(["add", "add", "merge", "remove", "compact"])
        pool = {"add": set(OWN) - there, "merge": set(OTHERS) - there, "remove": there, "compact": set()}[what]
        names = rng.sample(sorted(pool), min(rng.randint(1, 40), len(pool)))
        if names or what == "compact":
            os.write(file, f"{json.dumps([what, names])}\n".encode())
            if what == "add":
                base.add(*entries_and_vectors(names))
            elif what == "merge":
                assert base.merge(other, names).added == len(names)
            elif what == "remove":
                assert base.remove(names) == len(names)
            else:
                base.compact()
            os.write(file, b'"done"\n')


def states(journal, before):
    """The names after what was acknowledged, and after what was begun too."""
    acknowledged = begun = before
    # A line may be cut short by a kill.
    for line in (line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")):
        content = json.loads(line)
        if content == "done":
            acknowledged = begun
        else:
            assert begun == acknowledged
            what, names = content
            begun = begun - set(names) if what == "remove" else begun | set(names)
    return acknowledged, begun, json.loads(line)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_base_survives_kills_of_its_writer_at_any_moment(tmp_path):
    rng = random.Random(1)
    path, journal = tmp_path / "kb", tmp_path / "journal"
    KnowledgeBase.create(path, CODE, *entries_and_vectors(OWN[:50]), keep_vectors=True)
    KnowledgeBase.create(tmp_path / "other", CODE, *entries_and_vectors(OTHERS), keep_vectors=True)
    codes = CODE.encode(VECTORS)
    # Forked from a process that has loaded all, so that a kill costs milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crlsc_phy.knowledge", __name__])
    names = set(OWN[:50])
    midway = unacknowledged = changes = 0
    for kill in range(KILLS):
        journal.write_text('"done"\n')
        process = context.Process(target=work, args=(path, tmp_path / "other", journal, kill))
        process.start()
        # The first change begins some time after the start; kills before it try nothing.
        while journal.stat().st_size < 10 and process.is_alive():
            process.join(0.001)
        process.join(rng.uniform(0, 0.18))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        acknowledged, begun, last = states(journal, names)
        midway += last != "done"
        changes += journal.read_text().count("done") - 1
        base = KnowledgeBase.open(path)
        base._folder.check(base.manifest, thorough=True)
        listed = [entry.name for entry in base.entries]
        names = set(listed)
        assert len(listed) == len(names) == len(base)
        assert names in (acknowledged, begun)
        unacknowledged += names != acknowledged
        rows = [int(name[2:]) for name in listed]
        assert np.array_equal(base.codes, codes[rows])
        if listed:
            hit = base.search(VECTORS[rows[:1]], 1)[0][0]
            assert hit.score > 0.9
    # Otherwise the kills came too late or too early to try anything.
    assert midway > KILLS // 10
    assert unacknowledged
    assert changes > KILLS // 10
    base.compact()
    assert {entry.name for entry in base.entries} == names
    left = {child.name for child in path.iterdir()}
    assert left <= {"current", "lock", "cache", base.manifest.folder}
