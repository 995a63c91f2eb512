"""Knowledge bases between machines: over real sockets, through wires that break, and from servers that lie."""

import contextlib
import hashlib
import http.client
import json
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from machines import CODE, Wire, add, make, named, pretending, serving, unit

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, KnowledgeBase
from crlsc_phy.net import publish, pull, remote
from crlsc_phy.net.parcels import CONTENT_TYPE, pack, split, unpack


@pytest.fixture
def base(tmp_path):
    return make(tmp_path / "server/skb")


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "terminal/skb"


@pytest.fixture
def wire():
    wires = []

    def lay(url):
        wires.append(Wire(url))
        return wires[-1]

    yield lay
    for one in wires:
        one.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "_PAUSES_S", (0.01, 0.05))


def ask(url, method="GET", path=None, body=None, headers=None):
    """A request whose path no library tidies up."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request(method, parts.path if path is None else path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def same(copy, base):
    KnowledgeBase.open(copy)._folder.check(base.manifest, thorough=True)
    opened = KnowledgeBase.open(copy)
    return opened.id == base.id and list(opened.entries) == list(base.entries)


def size_of(base, folder=""):
    return sum(fact.size for name, fact in base.manifest.files.items() if name.startswith(folder))


class TestPull:
    def test_all_of_it_then_nothing_then_the_new_shard_alone(self, base, copy, wire):
        with serving(base.path) as url:
            line = wire(url)
            first = pull(line.url, copy)
            assert same(copy, base)
            assert (first.files, first.entries, first.id) == (4, 2000, base.id)
            before = line.received
            assert pull(line.url, copy).files == 0
            assert line.received - before < 1000
            add(base, 2000, 2100)
            before = line.received
            second = pull(line.url, copy)
            assert (second.files, second.generation) == (3, 2)
            assert line.received - before < size_of(base, "000002") + 5000
            assert same(copy, base)

    def test_a_root_address_is_enough_for_one_base(self, base, copy, tmp_path):
        with serving(base.path) as url:
            pull(url.split("/kb/")[0], copy)
        other = make(tmp_path / "other", 0, 5)
        several = pytest.raises(KnowledgeBaseError, match="serves skb, other; add /kb/NAME")
        with serving(base.path, other.path) as url, several:
            pull(url.split("/kb/")[0], copy)

    def test_removal_compaction_and_a_copy_of_the_copy(self, base, copy, tmp_path):
        with serving(base.path) as url:
            pull(url, copy)
            base.remove(["e/3"])
            pull(url, copy)
            assert same(copy, base)
            add(base, 2000, 2001)
            base.compact()
            pull(url, copy)
            assert same(copy, base)
            assert [path.name for path in copy.glob("0*")] == [base.manifest.folder]
        with serving(copy) as url:
            pull(url, tmp_path / "third")
        assert same(tmp_path / "third", base)

    def test_a_reader_of_the_copy_moves_on_when_it_wants(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
            reader = KnowledgeBase.open(copy)
            base.remove(["e/0"])
            base.compact()
            pull(url, copy)
        assert len(reader) == 2000
        assert reader.search(unit(1), 1)[0][0].name == "e/0"
        assert reader.refresh()
        assert len(reader) == 1999

    def test_cut_connections_are_resumed(self, base, copy, wire):
        with serving(base.path) as url:
            line = wire(url)
            line.cuts = [3000, 10_000, 70_000, 20_000]
            pull(line.url, copy)
            assert not line.cuts
        assert same(copy, base)
        # 16 kB may be on their way at each cut.
        assert line.received < size_of(base) + 4 * (1 << 14) + 5000

    def test_a_later_pull_goes_on_where_one_was_cut_off(self, base, copy, wire):
        with serving(base.path) as url:
            line = wire(url)
            line.cuts, line.dead = [60_000], True
            with pytest.raises(KnowledgeBaseError, match="was cut off at .* pull again"):
                pull(line.url, copy)
            assert not (copy / "current").exists()
            # A writer that comes between sweeps away what killed writers left, but not this.
            kept = sum(path.stat().st_size for path in (copy / ".pull").iterdir())
            assert kept > 40_000
            assert pull(url, copy).received < size_of(base) - kept + 5000
        assert same(copy, base)
        assert not (copy / ".pull").exists()

    def test_a_byte_that_changes_on_the_way_is_refused(self, base, copy, wire):
        with serving(base.path) as url:
            line = wire(url)
            line.flips = 1
            pull(line.url, copy)
            assert same(copy, base)
            add(base, 2000, 4000)
            line.flips = 1000
            with pytest.raises(KnowledgeBaseError, match="arrives damaged"):
                pull(line.url, copy)
        assert len(KnowledgeBase.open(copy)) == 2000

    def test_a_damaged_copy_is_mended(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
            codes = copy / "000001/codes.npy"
            codes.write_bytes(codes.read_bytes()[:-1] + b"?")
            assert pull(url, copy).files == 1
            assert same(copy, base)
            (copy / "000001/manifest.json").write_text("{")
            pull(url, copy)
        assert same(copy, base)

    def test_while_the_server_adds_and_compacts(self, base, copy):
        done = threading.Event()

        def write():
            try:
                for number in range(2000, 2030):
                    add(base, number, number + 1)
                    base.compact()
            finally:
                done.set()

        with serving(base.path) as url:
            writer = threading.Thread(target=write)
            writer.start()
            pulls = 0
            while not done.is_set():
                # It may change faster than it can be pulled.
                with contextlib.suppress(KnowledgeBaseError):
                    pull(url, copy)
                    pulls += 1
            writer.join()
            pull(url, copy)
        assert pulls
        assert len(base) == 2030
        assert same(copy, base)

    def test_the_disk_has_no_room(self, base, copy, monkeypatch):
        usage = type("Usage", (), {"free": 1000})
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="the disk has 0 MB; make room"):
            pull(url, copy)

    def test_the_disk_becomes_full(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
            add(base, 2000, 2100)
            hashed = base.manifest.files["000002/codes.npy"].sha256
            (copy / ".pull").mkdir()
            (copy / f".pull/000002-codes.npy-{hashed[:16]}").symlink_to("/dev/full")
            with pytest.raises(KnowledgeBaseError, match="the disk is full; nothing was changed"):
                pull(url, copy)
        assert len(KnowledgeBase.open(copy)) == 2000

    def test_two_pulls_into_one_folder(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
            add(base, 2000, 2001)
            with KnowledgeBase.open(copy)._folder.writing(), pytest.raises(KnowledgeBaseError, match="another process"):
                pull(url, copy)


class TestRefusal:
    """What is in the folder is not overwritten."""

    def test_entries_of_its_own(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
            own = KnowledgeBase.open(copy)
            add(own, 4000, 4001)
            for _ in range(2):
                # The second time the server has compacted away what the two had in common.
                with pytest.raises(KnowledgeBaseError, match="generation 000002 is not one of"):
                    pull(url, copy)
                add(base, 2000 + len(base), 2001 + len(base))
                add(base, 2000 + len(base), 2001 + len(base))
                base.compact()
        assert KnowledgeBase.open(copy).id == own.id

    def test_another_base_of_the_same_air_code(self, base, copy, tmp_path):
        make(copy, 0, 10)
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="is not one of"):
            pull(url, copy)
        other = make(tmp_path / "other", 0, 10)
        with serving(other.path) as url:
            pull(url, tmp_path / "copy")
        base.compact()
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="is not one of"):
            pull(url, tmp_path / "copy")

    def test_a_server_that_went_back(self, base, copy):
        add(base, 2000, 2001)
        old = base.snapshot(base.path.parent.parent / "old/skb")
        add(base, 2001, 2002)
        with serving(base.path) as url:
            pull(url, copy)
        with serving(old.path) as url, pytest.raises(KnowledgeBaseError, match="is not one of"):
            pull(url, copy)

    def test_another_air_code(self, base, copy):
        make(copy, 0, 10, AirCode(CODE.centroids + 1))
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="has the air code .* another folder"):
            pull(url, copy)


class TestServer:
    @pytest.mark.parametrize(
        "path",
        [
            "current",
            "lock",
            "cache/hashed.json",
            "000001/secret.npy",
            "000001/../lock",
            "000001/../../secret.npy",
            "..%2f..%2fsecret.npy",
            "%2e%2e/%2e%2e/secret.npy",
            "/etc/passwd",
            "000001/codes.npy%00",
            "000001/codes.npy.gz",
            "000001/./codes.npy",
            "000009/manifest.json",
            "000009/codes.npy",
            "",
        ],
    )
    def test_nothing_but_the_files_of_generations_can_be_read(self, base, path):
        (base.path.parent / "secret.npy").write_bytes(b"secret")
        (base.path / "cache").mkdir()
        (base.path / "cache/hashed.json").write_bytes(b"secret")
        # What a writer has not pointed to yet.
        (base.path / "000009").mkdir()
        for name in ("000001/secret.npy", "000001/codes.npy.gz", "000009/manifest.json", "000009/codes.npy"):
            (base.path / name).write_bytes(b"secret")
        with serving(base.path) as url:
            status, content = ask(url, path=f"/kb/skb/files/{path}")
            assert status in (400, 404)
            assert b"secret" not in content
            assert ask(url, path="/kb/skb/files/000001/codes.npy")[0] == 200

    def test_lists_what_it_serves(self, base):
        with serving(base.path) as url:
            listing = json.loads(ask(url, path="/")[1])
            assert [one["name"] for one in listing["bases"]] == ["skb"]
            assert json.loads(ask(url, path="/kb/skb/current")[1])["id"] == base.id
            assert ask(url, path="/kb/other/current")[0] == 404

    def test_wants_its_token(self, base, copy):
        with serving(base.path, token="right") as url:
            for token in (None, "wrong", "righ"):
                with pytest.raises(KnowledgeBaseError, match="the token is missing or another; give"):
                    pull(url, copy, token=token)
            assert ask(url, headers={"Authorization": "Bearer \xff".encode().decode("latin-1")})[0] == 401
            pull(url, copy, token="right")
        assert same(copy, base)

    def test_does_not_open_to_other_machines_without_a_token(self, base):
        with pytest.raises(KnowledgeBaseError, match="set a token"):
            start(base.path, host="0.0.0.0")
        with serving(base.path, host="0.0.0.0", without_token=True) as url:
            assert ask(url, path="/")[0] == 200

    def test_tells_a_taken_port_and_equal_names(self, base, tmp_path):
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="cannot be listened to"):
            start(base.path, port=urlsplit(url).port)
        twin = make(tmp_path / "twin/skb", 0, 3)
        with pytest.raises(KnowledgeBaseError, match="named 'skb' too"):
            start(base.path, twin.path)

    def test_a_server_that_is_none(self, copy, base):
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
            pull(url.replace("skb", "other"), copy)
        with pytest.raises(KnowledgeBaseError, match="cannot be reached"):
            pull(url, copy)
        for address in ("skb", "ftp://host/kb/skb", "http://host:99999/kb/skb", "http://"):
            with pytest.raises(KnowledgeBaseError, match="is no address"):
                pull(address, copy)
        for answer in (b"<html>", b"[" * 60_000, b"[]", b'{"generation": "../x"}', b'{"generation": 1, "id": {}}'):
            none = pytest.raises(KnowledgeBaseError, match="no server of knowledge bases")
            with pretending({"/kb/skb/current": answer}) as url, none:
                pull(url, copy)
        with pretending({"/kb/skb/current": b""}, 302) as url, pytest.raises(KnowledgeBaseError, match="status 302"):
            pull(url, copy)
        assert not copy.exists()


def start(*paths, **options):
    """Start a server that fails to."""
    import asyncio

    from crlsc_phy.net.kb_server import running

    async def run():
        async with running(paths, **({"port": 0} | options)):
            pass

    asyncio.run(run())


class TestLiars:
    """Servers whose manifests are made to do harm."""

    def answers(self, base, change=None, files=None):
        manifest = json.loads((base.path / "000001/manifest.json").read_bytes())
        if change:
            change(manifest)
        raw = json.dumps(manifest).encode()
        offer = {
            "generation": "000001",
            "id": hashlib.sha256(raw).hexdigest(),
            "air_code": base.manifest.air_code,
        }
        sent = {name: (base.path / name).read_bytes() for name in base.manifest.files} | (files or {})
        return {
            "/kb/skb/current": json.dumps(offer).encode(),
            "/kb/skb/files/000001/manifest.json": raw,
        } | {f"/kb/skb/files/{name}": content for name, content in sent.items()}

    def refused(self, answers, copy, message):
        with pretending(answers) as url, pytest.raises(KnowledgeBaseError, match=message):
            pull(url, copy)
        assert not (copy / "current").exists()
        assert not (copy.parent / "evil").exists()

    @pytest.mark.parametrize("name", ["../evil", "/tmp/evil.npy", "000001/../../evil.npy", "current", "000001/evil.sh"])
    def test_names_that_climb_out(self, base, copy, name):
        def change(manifest):
            manifest["files"][name] = {"size": 1, "sha256": "0" * 64}

        self.refused(self.answers(base, change), copy, "no file of a knowledge base")

    @pytest.mark.parametrize("size", [10**15, 10**30, -1, "12"])
    def test_absurd_sizes(self, base, copy, size):
        def change(manifest):
            manifest["files"]["000001/entries.sqlite"]["size"] = size

        self.refused(self.answers(base, change), copy, "MB are needed|is none|is damaged")

    def test_more_bytes_than_said(self, base, copy):
        files = {"000001/codes.npy": (base.path / "000001/codes.npy").read_bytes() + b"more"}
        self.refused(self.answers(base, files=files), copy, "sends more than the 8,128 bytes")

    def test_fewer_bytes_than_said(self, base, copy):
        self.refused(self.answers(base, files={"000001/codes.npy": b"few"}), copy, "was cut off at 3 of 8,128")

    def test_other_bytes_than_said(self, base, copy):
        size = base.manifest.files["000001/codes.npy"].size
        self.refused(self.answers(base, files={"000001/codes.npy": bytes(size)}), copy, "SHA-256 differs")

    def test_a_file_that_its_manifest_names_but_it_lacks(self, base, copy):
        answers = self.answers(base)
        del answers["/kb/skb/files/000001/codes.npy"]
        self.refused(answers, copy, "codes.npy: is not there")

    def test_another_manifest_than_offered(self, base, copy):
        answers = self.answers(base)
        answers["/kb/skb/files/000001/manifest.json"] += b" "
        self.refused(answers, copy, "arrives damaged")

    @pytest.mark.parametrize("name", ["codes.npy", "entries.sqlite", "air_code.safetensors"])
    @pytest.mark.parametrize("head", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x20\x00{'descr': '|O', (", b"\x80\x04"])
    def test_files_that_are_as_said_and_yet_garbage(self, base, copy, name, head):
        garbage = (head + np.random.default_rng(0).bytes(1 << 18))[: base.manifest.files[f"000001/{name}"].size]

        def change(manifest):
            manifest["files"][f"000001/{name}"]["sha256"] = hashlib.sha256(garbage).hexdigest()

        self.refused(
            self.answers(base, change, {f"000001/{name}": garbage}), copy, "its generation 000001 does not open"
        )
        # It leaves nothing behind that an honest server could stumble over.
        with serving(base.path) as url:
            pull(url, copy)
        assert same(copy, base)

    def test_another_file_of_a_name_that_is_here(self, base, copy):
        with serving(base.path) as url:
            pull(url, copy)
        first = (base.path / "000001/manifest.json").read_bytes()
        add(base, 2000, 2100)
        manifest = json.loads((base.path / "000002/manifest.json").read_bytes())
        size = base.manifest.files["000001/codes.npy"].size
        manifest["files"]["000001/codes.npy"]["sha256"] = hashlib.sha256(bytes(size)).hexdigest()
        raw = json.dumps(manifest).encode()
        offer = {"generation": "000002", "id": hashlib.sha256(raw).hexdigest(), "air_code": base.manifest.air_code}
        answers = {
            "/kb/skb/current": json.dumps(offer).encode(),
            "/kb/skb/files/000001/manifest.json": first,
            "/kb/skb/files/000002/manifest.json": raw,
            "/kb/skb/files/000001/codes.npy": bytes(size),
        } | {
            f"/kb/skb/files/{name}": (base.path / name).read_bytes()
            for name in manifest["files"]
            if "codes" not in name
        }
        with pretending(answers) as url, pytest.raises(KnowledgeBaseError, match="is not one of"):
            pull(url, copy)
        assert len(KnowledgeBase.open(copy)) == 2000


class TestPublish:
    def test_adds_what_is_new_and_tells_the_rest(self, base, tmp_path):
        private = make(tmp_path / "pkb", 1990, 2010)
        private.add(unit(5000)[[5]], [replace(named(5, 6)[0], name="my 5", thumbnail=b"\x00png\xff", caption="Ä 🙂\n")])
        with serving(base.path, allow_publish=True) as url:
            merged = publish(private, url)
            assert (merged.added, merged.duplicates) == (11, 10)
            assert merged.alike == (("my 5", "e/5"),)
            assert publish(private, url).duplicates == 21
            assert publish(private, url, ["e/2001"]).duplicates == 1
        assert base.refresh()
        assert len(base) == 2011
        entry = base.entry("my 5")
        assert (entry.origin, entry.thumbnail, entry.caption) == (
            f"pkb@{private.id[:12]}/my 5",
            b"\x00png\xff",
            "Ä 🙂\n",
        )
        # Vectors went too: codes alone would score less.
        assert base.search(unit(5000)[[2005]], 1)[0][0].score > 0.999

    def test_in_parts(self, base, tmp_path, monkeypatch):
        monkeypatch.setattr("crlsc_phy.net.kb_client.split", lambda parcel, keep: split(parcel, keep, 30_000))
        private, told = make(tmp_path / "pkb", 2000, 2100), []
        with serving(base.path, allow_publish=True) as url:
            assert publish(private, url, progress=lambda *done: told.append(done)).added == 100
        assert len(told) > 2
        assert told[-1] == (100, 100)
        assert len(KnowledgeBase.open(base.path)) == 2100

    @pytest.mark.parametrize(("mine", "theirs"), [(True, False), (False, True), (False, False)])
    def test_whether_or_not_both_keep_vectors(self, tmp_path, mine, theirs):
        shared, private = (
            make(tmp_path / "skb", 0, 10, keep_vectors=theirs),
            make(tmp_path / "pkb", 10, 20, keep_vectors=mine),
        )
        with serving(shared.path, allow_publish=True) as url:
            assert publish(private, url).added == 10
        shared.refresh()
        assert shared.search(private.air_code.decode(private.codes[:1]), 1)[0][0].name == "e/10"

    def test_is_refused_where_it_does_not_fit(self, base, tmp_path):
        private = make(tmp_path / "pkb", 2000, 2001)
        foreign = make(tmp_path / "foreign", 0, 3, AirCode(CODE.centroids + 1))
        renamed = KnowledgeBase.create(tmp_path / "renamed", CODE, unit(5000)[[7]], named(8, 9))
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="--allow-publish"):
            publish(private, url)
        with serving(base.path, allow_publish=True) as url:
            with pytest.raises(KnowledgeBaseError, match="has the air code"):
                publish(foreign, url)
            with pytest.raises(KnowledgeBaseError, match="skb: has an entry 'e/8' with another code"):
                publish(renamed, url)
            with pytest.raises(KnowledgeBaseError, match="has no entry 'absent'"):
                publish(private, url, ["absent"])
            with base._folder.writing(), pytest.raises(KnowledgeBaseError, match="another process is writing"):
                publish(private, url)
        assert KnowledgeBase.open(base.path).id == base.id

    def test_a_hostile_parcel_changes_nothing(self, base, tmp_path):
        parcel = make(tmp_path / "pkb", 2000, 2003).parcel()
        good = pack(parcel)
        bad = [b"", b"\xff" * 8, good[:-10], good[:200], bytes(1000), (1 << 62).to_bytes(8, "little") + b"{}"]
        bad += [good.replace(b'"name": "e/2000"', change) for change in (b'"name": 123456789', b'"xxxx": "e/2000"')]
        bad += [good.replace(b'"thumbnail": 0', b'"thumbnail": 9')]
        bad += [good.replace(b"e/2000", text) for text in (b"e/2001", b"e/\x1b[2J", b"\\ud800", b"\\u0000")]
        bad += [pack(replace(parcel, codes=np.zeros((3, 5), np.uint8))), pack(replace(parcel, air_code="0" * 64))]
        bad += [pack(replace(parcel, vectors=np.full((3, 16), np.inf, np.float32)))]
        headers = {"Content-Type": CONTENT_TYPE}
        with serving(base.path, allow_publish=True) as url:
            for body in bad:
                status, content = ask(f"{url}/entries", "POST", body=body, headers=headers)
                assert status == 409
                assert str(base.path) not in json.loads(content)["error"]
            # As a web page could send it.
            assert ask(f"{url}/entries", "POST", body=good, headers={"Content-Type": "text/plain"})[0] == 415
            large = {"Content-Length": str(1 << 40)}
            assert ask(f"{url}/entries", "POST", body=b"", headers=headers | large)[0] in (400, 413)
            assert KnowledgeBase.open(base.path).id == base.id
            assert ask(f"{url}/entries", "POST", body=good, headers=headers)[0] == 200
        assert len(KnowledgeBase.open(base.path)) == 2003

    def test_a_parcel_survives_its_bytes(self, tmp_path):
        parcel = make(tmp_path / "pkb", 0, 20).parcel()
        again = unpack(pack(parcel))
        assert (again.entries, again.origin, again.air_code) == (parcel.entries, parcel.origin, parcel.air_code)
        assert np.array_equal(again.codes, parcel.codes)
        assert np.array_equal(again.vectors, parcel.vectors)
