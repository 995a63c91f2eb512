"""Entries from a private base into a shared one on a server."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from machines import CODE, ask, make, named, serving, unit

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, KnowledgeBase
from crlsc_phy.net import publish
from crlsc_phy.net.kb.parcel import CONTENT_TYPE, pack, split, unpack


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
        monkeypatch.setattr("crlsc_phy.net.kb.client.split", lambda parcel, keep: split(parcel, keep, 30_000))
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
