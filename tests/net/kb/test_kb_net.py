"""Knowledge bases between machines: over real sockets, and through wires that break."""

import contextlib
import json
import threading
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp")

from machines import CODE, add, ask, make, pretending, same, serving, unit

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, KnowledgeBase
from crlsc_phy.net import pull


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


def start(*paths, **options):
    """Start a server that fails to."""
    import asyncio

    from crlsc_phy.net.kb.server import running

    async def run():
        async with running(paths, **({"port": 0} | options)):
            pass

    asyncio.run(run())


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
                with pytest.raises(KnowledgeBaseError, match="the token is missing or wrong; give"):
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
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="cannot listen there"):
            start(base.path, port=urlsplit(url).port)
        twin = make(tmp_path / "twin/skb", 0, 3)
        with pytest.raises(KnowledgeBaseError, match="has the name 'skb' too"):
            start(base.path, twin.path)

    def test_a_server_that_is_none(self, copy, base):
        with serving(base.path) as url, pytest.raises(KnowledgeBaseError, match="no such knowledge base"):
            pull(url.replace("skb", "other"), copy)
        with pytest.raises(KnowledgeBaseError, match="cannot be reached"):
            pull(url, copy)
        for address in ("skb", "ftp://host/kb/skb", "http://host:99999/kb/skb", "http://"):
            with pytest.raises(KnowledgeBaseError, match="not an address"):
                pull(address, copy)
        for answer in (b"<html>", b"[" * 60_000, b"[]", b'{"generation": "../x"}', b'{"generation": 1, "id": {}}'):
            none = pytest.raises(KnowledgeBaseError, match="not a server of knowledge bases")
            with pretending({"/kb/skb/current": answer}) as url, none:
                pull(url, copy)
        with pretending({"/kb/skb/current": b""}, 302) as url, pytest.raises(KnowledgeBaseError, match="status 302"):
            pull(url, copy)
        assert not copy.exists()
