"""Servers whose manifests and files are made to do harm."""

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from machines import add, pretending, same, serving

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.net import pull


class TestLiars:
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

        self.refused(self.answers(base, change), copy, "is not a file of a knowledge base")

    @pytest.mark.parametrize("size", [10**15, 10**30, -1, "12"])
    def test_absurd_sizes(self, base, copy, size):
        def change(manifest):
            manifest["files"]["000001/entries.sqlite"]["size"] = size

        self.refused(self.answers(base, change), copy, "MB are needed|is not valid|is damaged")

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
            self.answers(base, change, {f"000001/{name}": garbage}), copy, "its generation 000001 cannot be opened"
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
