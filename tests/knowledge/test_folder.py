"""The store on disk: what does not fit, is damaged, hostile, full or held by others; generations come and go."""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.folder import StoreFolder
from crlsc_phy.knowledge.manifest import Manifest

CODE = AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))
VECTORS = np.random.default_rng(1).normal(size=(2000, 16)).astype(np.float32)
FILES = ["air_code.safetensors", "codes.npy", "entries.sqlite", "vectors.npy"]


def named(start, stop):
    return [Entry(f"e/{i}", f"label {i % 7}", "made for this test", "CC0-1.0") for i in range(start, stop)]


def add(base, start, stop):
    base.add(VECTORS[start:stop], named(start, stop))


def names(base):
    return [entry.name for entry in base.entries]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kb"


@pytest.fixture
def base(path):
    return KnowledgeBase.create(path, CODE, VECTORS[:100], named(0, 100), keep_vectors=True)


def whole(path, count):
    base = KnowledgeBase.open(path)
    base._folder.check(base.manifest, thorough=True)
    assert names(base) == [f"e/{i}" for i in range(count)]
    return base


def refused(call, *arguments, match, **options):
    with pytest.raises(KnowledgeBaseError, match=match) as refusal:
        call(*arguments, **options)
    text = str(refusal.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


# Writers and what they cannot write.


def test_a_second_process_that_writes_keeps_the_first_out(path, base):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    other.stdout.readline()
    for write in (
        lambda: add(base, 100, 101),
        lambda: base.remove(["e/0"]),
        base.compact,
        lambda: base.configure(tau=1),
    ):
        refused(write, match="another process is writing to it")
    other.communicate("\n")
    add(base, 100, 101)
    whole(path, 101)


def test_a_writer_sees_what_another_base_object_has_written(path, base):
    other = KnowledgeBase.open(path)
    add(other, 100, 110)
    refused(add, base, 105, 106, match="'e/105' already")
    add(base, 110, 120)
    whole(path, 120)


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/kb"):
        refused(KnowledgeBase.create, place, CODE, VECTORS[:1], named(0, 1), match="cannot be written")
        refused(KnowledgeBase.open, place, match="holds no knowledge base")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_read_all_the_same(path, base):
    path.chmod(0o555)
    refused(add, base, 100, 101, match="cannot be written")
    whole(path, 100)
    path.chmod(0o755)


@pytest.mark.parametrize("place", ["os.fsync", "numpy.save", "crlsc_phy.knowledge.changes.write_entries"])
def test_a_full_disk_changes_nothing(path, base, monkeypatch, place):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    writes = [lambda: add(base, 100, 200), base.compact]
    if place != "crlsc_phy.knowledge.changes.write_entries":
        writes.append(lambda: base.remove(["e/0"]))
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        for write in writes:
            refused(write, match="the disk is full; nothing was changed")
            whole(path, 100)
    assert not list(path.glob(".new*"))
    add(base, 100, 200)
    whole(path, 200)


LIMITED = """
import resource, sys
import numpy as np
from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
base = KnowledgeBase.open(sys.argv[1])
vectors = np.random.default_rng(1).normal(size=(2000, 16)).astype(np.float32)
entries = [Entry(f"n/{i}", "x") for i in range(len(vectors))]
for limit in (0, 100, 4000, 9000, 20000, 40000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for write in (lambda: base.add(vectors, entries), base.compact)[: 2 if limit < 3000 else 1]:
        try:
            write()
        except KnowledgeBaseError as error:
            print(limit, error)
        else:
            sys.exit(f"{limit}: was written")
"""


def test_files_that_a_disk_cuts_short_at_any_size_are_told_in_one_line_and_change_nothing(path, base):
    whole(path, 100)
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all("cannot be written" in line or "disk is full" in line for line in lines), lines
    whole(path, 100)
    add(base, 100, 200)
    whole(path, 200)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", place], stderr=-3).returncode:
        pytest.skip("may not mount")
    yield place
    # Bases that tests have opened still map files.
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_fills_up_is_told_and_keeps_what_was_there(small_disk):
    path, count = small_disk / "kb", 100
    base = KnowledgeBase.create(path, CODE, VECTORS[:100], named(0, 100), keep_vectors=True)
    with pytest.raises(KnowledgeBaseError, match="disk is full"):
        while count < 1900:
            add(base, count, count + 60)
            count += 60
    whole(path, count)
    many = np.ones((40_000, 16), np.float32)
    refused(base.add, many, (Entry(f"n/{i}", "") for i in range(len(many))), match="disk is full; nothing was changed")
    whole(path, count)
    for size in range(0, 120_000, 4096):
        (small_disk / "rest").write_bytes(b"")
        free = os.statvfs(small_disk)
        with (small_disk / "rest").open("wb") as rest:
            rest.write(bytes(max(0, free.f_bavail * free.f_frsize - size)))
        try:
            base.compact()
            break
        except KnowledgeBaseError as error:
            assert "disk is full" in str(error)
    whole(path, count)


# What is damaged.


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("left", [0, 1, 0.5, -1, None])
def test_a_file_that_is_cut_short_or_missing_is_named(path, name, left):
    file = path / "000001" / name
    data = file.read_bytes()
    if left is None:
        file.unlink()
    else:
        file.write_bytes(data[: int(len(data) * left) if isinstance(left, float) else left])
    if name == "manifest.json" and left == -1:
        # All that is lost is the end of the line.
        whole(path, 100)
    else:
        refused(KnowledgeBase.open, path, match=name.replace(".", r"\."))


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.3, 0.5, 0.9, 1])
def test_a_flipped_byte_is_named(path, name, place):
    file = path / "000001" / name
    data = bytearray(file.read_bytes())
    data[int((len(data) - 1) * place)] ^= 1
    file.write_bytes(data)
    refused(KnowledgeBase.open, path, match=f"{name} is damaged .*fetch the base again")


@pytest.mark.parametrize("content", [b"", b"\n", b"1", b"../../x", b"/etc", b"000001x", b"\xff\x00", b"0" * 4096])
def test_a_damaged_pointer_is_told_and_a_reader_goes_on(path, base, content):
    (path / "current").write_bytes(content)
    refused(KnowledgeBase.open, path, match="current is damaged; run")
    refused(base.refresh, match="current is damaged")
    refused(add, base, 100, 101, match="current is damaged")
    assert len(base.search(VECTORS[:1], 3)[0]) == 3


def test_a_pointer_to_a_generation_that_is_not_there_is_told(path, base):
    (path / "current").write_text("000007\n")
    refused(KnowledgeBase.open, path, match="000007/manifest.json is missing")
    shutil.copytree(path / "000001", path / "000007")
    refused(base.refresh, match="000007 holds the manifest of 000001")
    assert len(base) == 100


# What is hostile.


def spoil(path, **changes):
    """Change the manifest; dots in names lead into it."""
    file = path / "000001/manifest.json"
    content = json.loads(file.read_text())
    for name, value in changes.items():
        content[name] = value(content[name]) if callable(value) else value
    file.write_text(json.dumps(content))


FACT = {"size": 1, "sha256": "0" * 64}
HUGE = 10**400


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    "changes",
    [
        *({"files": lambda files, name=name: files | {name: FACT}}
          for name in ("../x", "/etc/passwd", "000001/../../x.npy", "000001/x/y.npy", "000001\\x.npy", "", "000001/x",
                       "000001/x.npy\n", "cache/x.npy", "000001/.npy", "٠٠٠٠٠١/x.npy")),
        *({"files": value} for value in ({}, [], 3, None, "x", {"000001/x.npy": 3}, {"000001/x.npy": {}})),
        *({"files": lambda files, fact=fact: files | {"000001/x.npy": FACT | fact}}
          for fact in ({"size": -1}, {"size": "1"}, {"size": 1.5}, {"sha256": "x"}, {"sha256": 3}, {"more": 1})),
        *({"shards": value} for value in (
            [], 3, None, [3], [{"folder": ".."}], [{"folder": "..", "entries": 100}], [{"folder": 3, "entries": 100}],
            [{"folder": "000001", "entries": -1}], [{"folder": "000001", "entries": 1 << 40}],
            [{"folder": "000001", "entries": "100"}], [{"folder": "000001", "entries": 100.0}],
            [{"folder": "000001", "entries": 101}], [{"folder": "000009", "entries": 100}],
            [{"folder": "000001", "entries": 100}] * 2)),
        *({"entries": value} for value in (-1, 99, 101, 1 << 60, HUGE, "100", 100.0, None, True, [100])),
        *({"dim": value} for value in (0, -16, 17, 1 << 40, "16", None)),
        *({"code_bytes": value} for value in (0, -4, 5, 65, HUGE, 4.0)),
        *({"number": value} for value in (0, -1, 2, 10**9, "1", True, None)),
        *({name: value} for name in ("tau", "threshold", "vector_scale") for value in
          (math.nan, math.inf, "1", None, [], HUGE)),
        *({name: -1.0} for name in ("tau", "vector_scale")),
        *({"air_code": value} for value in ("", "x", 3, None, "0" * 64)),
        *({"air_code_file": value} for value in ("", "../x", "000001/codes.npy", "/dev/zero", 3)),
        *({"removed": value} for value in ("../x.npy", "000001/codes.npy", "000001/entries.sqlite", 3, None)),
        *({"name": value} for value in (3, None, ["x"])),
        {"shards": [{"folder": "000001", "entries": 100}] * 2, "entries": 200},
        {"index": 3}, {"aligned_to": []}, {"more": 1}, {"more\nlines": 1},
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused_in_one_line(path, changes):
    spoil(path, **changes)
    refused(KnowledgeBase.open, path, match=r"kb/?.*: ")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[1]",
        "3",
        "null",
        '"x"',
        "{}",
        "\xff",
        '{"format": 2}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
    ],
)
def test_a_manifest_that_is_none_is_refused_in_one_line(path, text):
    (path / "000001/manifest.json").write_bytes(text.encode("latin-1"))
    refused(KnowledgeBase.open, path, match="manifest.json is damaged")


@pytest.mark.usefixtures("base")
def test_json_of_any_depth_is_refused_in_one_line(path):
    file = path / "000001/manifest.json"
    start = json.dumps(json.loads(file.read_text()) | {"entries": "HERE"})
    for depth in [*range(1, 1000, 9), *range(900, 1000)]:
        file.write_text(start.replace('"HERE"', "[" * depth + "]" * depth))
        with pytest.raises(KnowledgeBaseError, match="damaged"):
            KnowledgeBase.open(path)


@pytest.mark.usefixtures("base")
def test_a_manifest_larger_than_any_is_not_read(path):
    with (path / "000001/manifest.json").open("ab") as file:
        file.truncate(1 << 34)
    refused(KnowledgeBase.open, path, match="is damaged: it has more than 16 MiB")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("found", "advice"), [(3, "update"), (99, "update"), (1, "build it again"), ("2", "build"), (None, "build")]
)
def test_another_format_is_told_and_what_helps(path, found, advice):
    spoil(path, format=found)
    refused(KnowledgeBase.open, path, match=f"has format .*, but this program reads format 2; {advice}")


def test_a_base_of_an_earlier_version_is_told(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    refused(KnowledgeBase.open, tmp_path, match="earlier version, build it again")


def with_content(path, name, content):
    """Put a file into the base with all hashes right."""
    (path / "000001" / name).write_bytes(content)
    fact = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    spoil(path, files=lambda files: files | {f"000001/{name}": fact})


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


HEADER = npy(np.zeros((100, 4), np.uint8))[:128]


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    "rows", [[100], [-1], [1 << 62], [0, 1], [], [0.0], [[0]], np.array([None], object)], ids=lambda rows: str(rows)
)
def test_removed_rows_that_are_not_there_or_not_as_many_are_refused(path, rows):
    with_content(path, "removed.npy", npy(np.array(rows, None if len(rows) else np.int64)))
    spoil(path, removed="000001/removed.npy", entries=99)
    refused(KnowledgeBase.open, path, match="kb")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(396),
        bytes(400),
        HEADER,
        HEADER.ljust(499, b"\0"),
        HEADER[:40] + b"(" * 88 + bytes(400),
        b"\x93NUMPY\x09\x00" + HEADER[8:] + bytes(400),
        npy(np.zeros((100, 4), np.int8)),
        npy(np.zeros((4, 100), np.uint8)),
        npy(np.zeros(400, np.uint8)),
    ],
)
def test_codes_that_are_none_are_refused_also_with_the_right_hash(path, content):
    with_content(path, "codes.npy", content)
    refused(KnowledgeBase.open, path, match="codes.npy")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", ["entries.sqlite", "air_code.safetensors"])
@pytest.mark.parametrize("content", [b"", bytes(100), b"\xff" * 5000, b"SQLite format 3\0" + bytes(5000)])
def test_other_files_that_are_none_are_refused_also_with_the_right_hash(path, name, content):
    with_content(path, name, content)
    refused(KnowledgeBase.open, path, match=name)


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("harm", ["DELETE FROM entries WHERE row = 5", "UPDATE entries SET row = -1 WHERE row = 5"])
def test_a_table_with_gaps_is_told_when_they_are_met(path, harm):
    file = path / "000001/entries.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(harm)
    with_content(path, "entries.sqlite", file.read_bytes())
    opened = KnowledgeBase.open(path)
    for ask in (opened.parcel, lambda: names(opened), lambda: list(opened.search(VECTORS[:1], 100)[0])):
        refused(ask, match="entries.sqlite: lacks some of its 100 entries")


# What does not fit.


@pytest.mark.parametrize(
    ("vectors", "entries", "match"),
    [
        (np.full((1, 16), np.nan), named(200, 201), "NaN"),
        (np.full((1, 16), np.inf), named(200, 201), "infinite"),
        (np.zeros((1, 15)), named(200, 201), r"takes \[N, 16\]"),
        (np.zeros(16), named(200, 201), r"takes \[N, 16\]"),
        ([["x"] * 16], named(200, 201), "not numbers"),
        (np.ones((2, 16)), named(200, 201), "2 vectors for 1 entries"),
        (np.ones((2, 16)), [*named(200, 201), *named(200, 201)], "two entries have the name 'e/200'"),
        (np.ones((2, 16)), [*named(200, 201), *named(7, 8)], "'e/7' already"),
        (np.ones((1, 16)), [Entry(None, "x")], "one lacks a name"),
    ],
)
def test_what_does_not_fit_is_refused_whole(tmp_path, path, base, vectors, entries, match):
    refused(base.add, vectors, entries, match=match)
    whole(path, 100)
    if "already" not in match:
        refused(KnowledgeBase.create, tmp_path / "new", CODE, vectors, entries, match=match)
        refused(KnowledgeBase.open, tmp_path / "new", match="holds no knowledge base")
    refused(base.add, np.ones((1, 16)), named(200, 201), codes=np.zeros((1, 5), np.uint8), match="codes are")


# Generations come and go.


def test_what_killed_writers_left_is_never_seen_and_swept_by_the_next_one(path, base):
    shutil.copytree(path / "000001", path / ".new-123")
    shutil.copytree(path / "000001", path / "000002")
    (path / "000003").mkdir()
    (path / ".current.123.part").write_text("0000")
    assert whole(path, 100).id == base.id
    assert StoreFolder(path).generations() == ["000001"]
    assert not base.refresh()
    add(base, 100, 110)
    assert {child.name for child in path.iterdir()} <= {"000001", "000002", "current", "lock", "cache"}
    whole(path, 110)


def test_a_reader_keeps_what_it_has_open_until_it_refreshes(path, base):
    reader = KnowledgeBase.open(path)
    before, search = names(reader), [hit.name for hit in reader.search(VECTORS[:1], 5)[0]]
    under_way = reader.entries
    first = next(under_way)
    add(base, 100, 2000)
    base.remove([search[0]])
    base.compact()
    base.compact()
    assert not (path / "000001").exists()
    assert [first.name, *(entry.name for entry in under_way)] == before == names(reader)
    assert [hit.name for hit in reader.search(VECTORS[:1], 5)[0]] == search
    assert reader.entry("e/50").name == "e/50"
    assert sum(len(batch.entries) for batch in reader.batches(30)) == 100
    assert reader.repair(reader.codes[7]).entry.name == "e/7"
    assert reader.refresh()
    assert not reader.refresh()
    assert len(reader) == 1999
    assert search[0] not in names(reader)
    assert reader.id == base.id


def test_readers_in_threads_see_whole_generations_while_a_writer_adds_removes_and_compacts(path, base):
    done, wrong = threading.Event(), []

    def read():
        reader = KnowledgeBase.open(path)
        try:
            while not done.is_set():
                listed = names(reader)
                # The writer adds and removes tens.
                assert len(listed) == len(set(listed)) == len(reader) == len(reader.codes)
                assert len(listed) % 10 == 0
                hits = reader.search(VECTORS[20:22], 3)
                assert [hit[0].name for hit in hits] == ["e/20", "e/21"]
                assert reader.repair(reader.codes[0], "nearest").distance < 1e-3
                assert len(KnowledgeBase.open(path)) % 10 == 0
                reader.refresh()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100, 400, 10):
        add(base, i, i + 10)
        if i % 30 == 0:
            assert base.remove(f"e/{j}" for j in range(i, i + 10)) == 10
        if i % 50 == 0:
            base.compact()
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(KnowledgeBase.open(path)) == 300


def test_a_manifest_is_read_as_it_was_written(base):
    assert Manifest.parse(base.manifest.to_json().encode(), "here") == base.manifest
