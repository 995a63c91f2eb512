"""The knowledge base behind Milvus, on milvus-lite, and copies between folders and Milvus."""

import argparse
import dataclasses
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymilvus")
server_manager = pytest.importorskip("milvus_lite.server_manager").server_manager_instance

from crlsc_phy.cli import kb_migrate
from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase, migrate, milvus_engine, milvus_rows
from crlsc_phy.knowledge.calibration import noisy_llrs
from crlsc_phy.knowledge.milvus import MilvusKnowledgeBase

COUNT = 600
# What an expression of Milvus, a URL and a shell would trip over.
AWKWARD = ["it's", 'a"b', "back\\slash", "end\\", 'x"] or name != "', "tab\tnew\nline", "%41", "é😀", "a b", "{x}", "/"]


@pytest.fixture(scope="module")
def code() -> AirCode:
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(32, 32)))[0].astype(np.float32)
    return AirCode(np.random.default_rng(0).normal(size=(8, 256, 4)).astype(np.float32), rotation)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(COUNT, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    plain = [Entry(f"e/{i}", f"label {i % 30}", "made here", "CC0-1.0") for i in range(COUNT - len(AWKWARD))]
    full = [Entry(name, "lä\"bel'", "s\\", "MIT", "a\nb", "p/q", bytes(range(256)), "kb@1/x") for name in AWKWARD]
    return plain + full


@pytest.fixture(scope="module")
def local(tmp_path_factory, code, vectors, entries) -> KnowledgeBase:
    return KnowledgeBase.create(
        tmp_path_factory.mktemp("local") / "kb", code, vectors, entries, name="pictures", tau=0.7, threshold=3.5
    )


@pytest.fixture
def uri(tmp_path):
    path = str(tmp_path / "lite.db")
    yield path
    server_manager.release_server(path)


@pytest.fixture
def base(uri, code, vectors, entries) -> MilvusKnowledgeBase:
    return MilvusKnowledgeBase.create(uri, "pictures", code, vectors, entries)


def content(base) -> dict[str, tuple[bytes, Entry]]:
    batches = base.batches(100)
    return {
        entry.name: (code.tobytes(), entry)
        for batch in batches
        for code, entry in zip(batch.codes, batch.entries, strict=True)
    }


@pytest.mark.parametrize("k", [1, 5, 60])
def test_answers_are_those_of_a_folder(base, local, k):
    queries = np.random.default_rng(2).normal(size=(50, 32)).astype(np.float32)
    found = 0
    for here, there in zip(base.search(queries, k), local.search(queries, k), strict=True):
        assert [hit.score for hit in here] == sorted((hit.score for hit in here), reverse=True)
        scores = {hit.name: hit.score for hit in there}
        assert all(abs(scores[hit.name] - hit.score) < 1e-5 for hit in here if hit.name in scores)
        found += len({hit.name for hit in here} & set(scores))
    assert found >= 0.99 * 50 * k
    assert here[0].base == "pictures"


def test_repairs_are_those_of_a_folder(uri, local, code, vectors, entries):
    base = MilvusKnowledgeBase.create(uri, "pictures", code, vectors, entries, tau=0.7, threshold=3.5)
    llrs = noisy_llrs(np.array(local.codes[:40]), 0.03, np.random.default_rng(3))
    foreign = np.random.default_rng(4).integers(256, size=(10, 8)).astype(np.uint8)
    for batch, rule in ((llrs, None), (np.packbits(llrs > 0, axis=1), None), (llrs, "hamming"), (foreign, None)):
        pairs = list(zip(base.repair_batch(batch, rule), local.repair_batch(batch, rule), strict=True))
        same = [here for here, there in pairs if here.entry.name == there.entry.name]
        assert len(same) >= 0.9 * len(batch)
        assert all(here.entry.base == "pictures" for here, _ in pairs)
    named = [repair.entry.name == entry.name for repair, entry in zip(base.repair_batch(llrs), entries, strict=False)]
    assert np.mean(named) > 0.9
    assert not any(repair.known for repair in base.repair_batch(foreign))
    assert base.repair(llrs[0]).entry.name == "e/0"
    with pytest.raises(KnowledgeBaseError, match="received codes are"):
        base.repair(np.zeros(5))
    base.remove([entry.name for entry in entries])
    with pytest.raises(KnowledgeBaseError, match="empty"):
        base.repair(llrs[0])


def test_kept_vectors_decide(uri, code, vectors, entries):
    base = MilvusKnowledgeBase.create(uri, "own", code, vectors, entries, keep_vectors=True)
    queries = np.random.default_rng(2).normal(size=(20, 32)).astype(np.float32)
    units, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries))
    for query, hits in zip(asked, base.search(queries, 5), strict=True):
        assert np.allclose([hit.score for hit in hits], np.sort(units @ query)[::-1][:5], atol=1e-5)


def test_what_was_added_is_found_and_what_was_removed_is_not(base, code):
    vector = np.random.default_rng(3).normal(size=(1, 32)).astype(np.float32)
    seen = {base.id}
    assert base.known(["new", "e/1"]) == {"e/1"}
    base.add(vector, [Entry("new", "fresh")])
    seen.add(base.id)
    assert base.search(code.decode(code.encode(vector)), 1)[0][0].name == "new"
    assert len(base) == COUNT + 1
    assert base.remove(["new", "never there"]) == 1
    seen.add(base.id)
    assert base.search(vector, 1)[0][0].name != "new"
    assert len(base) == COUNT
    assert len(seen) == 3
    assert base.remove(["never there"]) == 0
    assert base.id in seen


def test_awkward_names_and_texts(base, entries):
    assert {entry.name: entry for entry in base.entries} == {entry.name: entry for entry in entries}
    assert [base.entry(entry.name) for entry in entries[-len(AWKWARD) :]] == entries[-len(AWKWARD) :]
    assert base.remove(AWKWARD) == len(AWKWARD)
    assert len(base) == COUNT - len(AWKWARD)
    with pytest.raises(KnowledgeBaseError, match="has no entry"):
        base.entry("it's")


def test_opens_in_another_process_as_it_was_made(uri, base, local):
    expected = base.id
    base.close()
    server_manager.release_server(uri)
    program = (
        "import sys; from crlsc_phy.knowledge.milvus import MilvusKnowledgeBase as M\n"
        "b = M.open(sys.argv[1], 'pictures'); print(b.id, b.air_code.id, len(b))"
    )
    result = subprocess.run([sys.executable, "-c", program, uri], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [expected, local.air_code.id, str(COUNT)]


def test_others_see_what_was_written(tmp_path, code, vectors, entries):
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(tmp_path / "served"))
    try:
        uri = f"http://127.0.0.1:{port}"
        writer = MilvusKnowledgeBase.create(uri, "k", code, vectors[:10], entries[:10])
        reader = MilvusKnowledgeBase.open(uri, "k")
        writer.remove(["e/0"])
        assert len(reader) == 9
        assert reader.id != writer.id
        assert reader.refresh()
        assert reader.id == writer.id
        assert not reader.refresh()
    finally:
        server.stop(grace=0)
        database.close()
    start = time.monotonic()
    with pytest.raises(KnowledgeBaseError, match="#k: "):
        writer.search(vectors[:1], 1)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("index", ["FLAT", "HNSW;M=8;efConstruction=60", "IVF_FLAT;nlist=8", "IVF_SQ8;nlist=8"])
def test_accepted_indexes_are_built(tmp_path, uri, code, vectors, entries, index):
    base = MilvusKnowledgeBase.create(uri, "k", code, vectors, entries, index=index)
    kind = index.split(";")[0].lower()
    deadline = time.monotonic() + 20
    while not list(tmp_path.rglob(f"*.vector.{kind}.idx")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stored = code.decode(code.encode(vectors[:20]))
    found = [hits[0].name for hits in base.search(stored, 1)]
    assert found == [entry.name for entry in entries[:20]]


@pytest.mark.parametrize("index", ["IVF_PQ;m=8", "DISKANN", "IVF_RABITQ", "NONSENSE"])
def test_indexes_that_milvus_lite_fakes_are_refused(uri, code, vectors, entries, index):
    with pytest.raises(KnowledgeBaseError, match="milvus-lite does not build"):
        MilvusKnowledgeBase.create(uri, "k", code, vectors, entries, index=index)
    with pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
        MilvusKnowledgeBase.open(uri, "k")


@pytest.mark.usefixtures("base")
def test_an_index_that_was_changed_is_noticed(uri):
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    client.release_collection("pictures")
    client.drop_index("pictures", "vector")
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_name="vector", index_type="FLAT", metric_type="COSINE")
    client.create_index("pictures", indexes)
    with pytest.raises(KnowledgeBaseError, match="has the index FLAT, not HNSW"):
        MilvusKnowledgeBase.open(uri, "pictures")


def test_what_does_not_fit_is_refused_and_nothing_changes(uri, base, code, vectors, entries):
    before, two = base.id, vectors[:2]
    new = Entry("new", "new")
    for given, named, match in (
        (two, [new, entries[3]], "has an entry 'e/3' already"),
        (two, [new, new], "two entries have the name 'new'"),
        (two, [new], "2 vectors for 1"),
        (np.full((1, 32), np.nan), [new], "NaN"),
        (np.zeros((1, 31)), [new], r"takes \[N, 32\]"),
        (two[:1], [Entry("", "new")], "has no name"),
        (two[:1], [Entry("\ud800", "new")], "not valid Unicode"),
        (two[:1], [dataclasses.replace(new, thumbnail=bytes(50_000))], "thumbnail takes 66,668 bytes"),
    ):
        with pytest.raises(KnowledgeBaseError, match=match):
            base.add(given, named)
    with pytest.raises(KnowledgeBaseError, match="codes are"):
        base.add(two, [new, Entry("b", "b")], codes=np.zeros((2, 3), np.uint8))
    for query, k, match in ((two * np.nan, 1, "NaN"), (two[:, :5], 1, "takes"), (two, 0, "k is 0")):
        with pytest.raises(KnowledgeBaseError, match=match):
            base.search(query, k)
    with pytest.raises(KnowledgeBaseError, match="there is a knowledge base already"):
        MilvusKnowledgeBase.create(uri, "pictures", code, two, entries[:2])
    assert base.id == before
    assert len(base) == COUNT
    assert not base.refresh()


def test_a_base_that_cannot_be_filled_is_not_made(uri, code, vectors):
    with pytest.raises(KnowledgeBaseError, match="thumbnail takes"):
        MilvusKnowledgeBase.create(uri, "k", code, vectors[:1], [Entry("a", "a", thumbnail=bytes(50_000))])
    with pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
        MilvusKnowledgeBase.open(uri, "k")


def test_damage_is_noticed(uri, base):
    with pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
        MilvusKnowledgeBase.open(uri, "other")
    with pytest.raises(KnowledgeBaseError, match="has air code .*, not abcd"):
        MilvusKnowledgeBase.open(uri, "pictures", air_code="abcd" * 16)
    engine = milvus_engine.Engine(uri, "pictures")
    row = engine.rows(["e/0"], (*milvus_rows.KNOWN, "vector"))["e/0"]
    engine.put([row | {"air_code": "0" * 64}])
    with pytest.raises(KnowledgeBaseError, match="'e/0' has another air code"):
        list(base.batches(100))
    first, *_ = (name for name in engine.pieces() if name != "state")
    kept = engine.pieces()[first]
    engine.keep({first: kept[:2000] + ("A" if kept[2000] != "A" else "B") + kept[2001:]})
    with pytest.raises(KnowledgeBaseError, match="air code is damaged"):
        MilvusKnowledgeBase.open(uri, "pictures")
    engine.keep({"state": json.dumps({"format": 2})})
    with pytest.raises(KnowledgeBaseError, match="has format 2"):
        MilvusKnowledgeBase.open(uri, "pictures")
    engine.keep({"state": '{"format": 1, "tau": "much"}'})
    with pytest.raises(KnowledgeBaseError, match="state is damaged"):
        MilvusKnowledgeBase.open(uri, "pictures")
    MilvusKnowledgeBase.drop(uri, "pictures")
    with pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
        MilvusKnowledgeBase.drop(uri, "pictures")


def test_collections_of_others_are_left_alone(uri, code, vectors, entries):
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    client.create_collection("theirs", dimension=4)
    with pytest.raises(KnowledgeBaseError, match="but not a knowledge base"):
        MilvusKnowledgeBase.create(uri, "theirs", code, vectors, entries)
    assert client.has_collection("theirs")


def test_a_server_that_does_not_answer_costs_no_more_than_the_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(KnowledgeBaseError, match=r"no Milvus answers there within 0\.5 s") as raised:
            MilvusKnowledgeBase.open(f"http://127.0.0.1:{silent.getsockname()[1]}", "k", timeout=0.5)
        assert time.monotonic() - start < 5
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "collection", "match"),
    [
        ("/nowhere/x.db", "k", "no such file"),
        ("http://127.0.0.1:1", "no-name", "is not a valid name of a collection"),
        ("ftp://127.0.0.1", "k", "cannot be opened"),
        ("http://127.0.0.1:1", "k", "no Milvus answers there"),
    ],
)
def test_a_wrong_address_is_named(uri, collection, match):
    with pytest.raises(KnowledgeBaseError, match=match):
        MilvusKnowledgeBase.open(uri, collection, timeout=2)


def test_without_pymilvus(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(KnowledgeBaseError, match="pymilvus is not installed"):
        MilvusKnowledgeBase.open(str(tmp_path / "x.db"), "k")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_named(timeout):
    with pytest.raises(KnowledgeBaseError, match="timeout is"):
        MilvusKnowledgeBase.open("http://127.0.0.1:1", "k", timeout=timeout)


@pytest.mark.parametrize("keep_vectors", [False, True])
def test_there_and_back_again(tmp_path, uri, code, vectors, entries, keep_vectors):
    # Codes that no vector of theirs encodes to: encoding anew would be seen.
    codes = np.random.default_rng(9).integers(0, 256, (COUNT, 8), np.uint8)
    local = KnowledgeBase.create(
        tmp_path / "a", code, vectors, entries, codes=codes, name="n", keep_vectors=keep_vectors, tau=0.7, threshold=3.5
    )
    local.remove(["e/5"])
    told: list[int] = []
    away = migrate.migrate(local, f"milvus:{uri}#n", progress=told.append)
    assert sum(told) == 2 * (COUNT - 1)
    back = migrate.migrate(away, tmp_path / "b")
    assert content(local) == content(away) == content(back)
    assert dict(zip([entry.name for entry in back.entries], back.codes.tolist(), strict=True)) == dict(
        zip([entry.name for entry in local.entries], local.codes.tolist(), strict=True)
    )
    assert [getattr(back.manifest, name) for name in ("name", "tau", "threshold")] == ["n", 0.7, 3.5]
    assert bool(back.manifest.vector_scale) == keep_vectors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "lite.db"]
    queries = vectors[:20]
    for one, two, three in zip(local.search(queries, 1), away.search(queries, 1), back.search(queries, 1), strict=True):
        assert one[0].name == two[0].name == three[0].name
    with pytest.raises(KnowledgeBaseError, match="already"):
        migrate.migrate(local, f"milvus:{uri}#n")
    with pytest.raises(KnowledgeBaseError, match="already"):
        migrate.migrate(away, tmp_path / "b")


def test_an_empty_base_is_copied(tmp_path, uri, code):
    local = KnowledgeBase.create(tmp_path / "a", code, np.empty((0, 32)), [])
    back = migrate.migrate(migrate.migrate(local, f"milvus:{uri}#n"), tmp_path / "b")
    assert len(back) == 0


KILLED = """
import os, signal, sys
from crlsc_phy.knowledge import KnowledgeBase, migrate
migrate._AN_ADDITION = 100
done = 0
def tell(count):
    global done
    done += count
    if done >= 300:
        os.kill(os.getpid(), signal.SIGKILL)
migrate.migrate(KnowledgeBase.open(sys.argv[1]), sys.argv[2], progress=tell)
"""


def test_a_copy_to_milvus_that_was_killed_goes_on(uri, local):
    place = f"milvus:{uri}#n"
    assert subprocess.run([sys.executable, "-c", KILLED, str(local.path), place]).returncode == -9
    with pytest.raises(KnowledgeBaseError, match="is incomplete; create or copy it again"):
        MilvusKnowledgeBase.open(uri, "n")
    assert milvus_engine.Engine(uri, "n").count() == 300
    assert content(migrate.migrate(local, place)) == content(local)


def test_a_copy_of_another_state_begins_anew(tmp_path, uri, local, code, vectors):
    other = KnowledgeBase.create(tmp_path / "o", code, vectors[:3], [Entry(f"o/{i}", "o") for i in range(3)])

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    for target in (f"milvus:{uri}#n", tmp_path / "copy"):
        with pytest.raises(KeyboardInterrupt):
            migrate.migrate(other, target, progress=stop)
        with pytest.raises(KnowledgeBaseError):
            migrate.open_base(target)
        assert content(migrate.migrate(local, target)) == content(local)
    assert not list(tmp_path.glob(".copy.*"))


def test_a_copy_to_a_folder_that_was_stopped_goes_on(tmp_path, base, monkeypatch):
    monkeypatch.setattr(migrate, "_A_SHARD", 256)
    added: list[int] = []
    add = KnowledgeBase.add

    def stop(count: int) -> None:
        added.append(count)
        if len(added) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate.migrate(base, tmp_path / "kb", progress=stop)
    assert not (tmp_path / "kb").exists()
    added.clear()
    monkeypatch.setattr(KnowledgeBase, "add", lambda self, v, e, **o: (added.append(len(v)), add(self, v, e, **o)))
    assert content(migrate.migrate(base, tmp_path / "kb")) == content(base)
    assert added[:2] == [0, 0]


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path, uri, base):
    other = MilvusKnowledgeBase.open(uri, "pictures")
    with pytest.raises(KnowledgeBaseError, match="was written to while it was copied"):
        migrate.migrate(base, tmp_path / "kb", progress=lambda _: other.remove(["e/0"]) and None)
    assert not (tmp_path / "kb").exists()


def test_a_copy_that_differs_is_refused(uri, local, monkeypatch):
    put = milvus_engine.Engine.put
    damaged = "00" * 8
    monkeypatch.setattr(
        milvus_engine.Engine, "put", lambda self, rows, tell: put(self, [{**rows[0], "code": damaged}, *rows[1:]], tell)
    )
    with pytest.raises(KnowledgeBaseError, match="differs from its source"):
        migrate.migrate(local, f"milvus:{uri}#n")
    with pytest.raises(KnowledgeBaseError, match="is incomplete; create or copy it again"):
        MilvusKnowledgeBase.open(uri, "n")


@pytest.mark.parametrize("place", ["milvus:", "milvus:http://localhost:19530", "milvus:#k", "milvus:kb.db#"])
def test_a_place_that_is_none_is_named(place):
    with pytest.raises(KnowledgeBaseError, match="write milvus:URI#COLLECTION"):
        migrate.open_base(place)


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    kb_migrate.add_parsers(parser.add_subparsers())
    options = parser.parse_args([str(argument) for argument in arguments])
    return int(options.run(options))


def test_the_command(tmp_path, uri, local, capsys):
    assert run("migrate", local.path, f"milvus:{uri}#n", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["entries"] == COUNT
    assert result["source"] == local.id
    assert run("migrate", f"milvus:{uri}#n", tmp_path / "kb") == 0
    assert f"{COUNT} entries copied and compared" in capsys.readouterr().out
    assert content(KnowledgeBase.open(tmp_path / "kb")) == content(local)
