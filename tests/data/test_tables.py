"""The shipped tables: their splits follow their rule, and nothing is in two of them."""

from collections import Counter, defaultdict

import pytest

from crlsc_phy.data import read_table
from crlsc_phy.data.listed import LISTED, key_of, rows_of

FREE = {"Apache-2.0", "MIT", "CC0-1.0", "public-domain", "CC-BY-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"}


def test_no_picture_is_listed_twice():
    rows = [row for name in LISTED for row in read_table(f"{name}.csv")]
    assert max(Counter(row["sha256"] for row in rows).values()) == 1
    assert max(Counter(key_of(row) for row in rows).values()) == 1


def test_the_counts_are_those_of_the_tables():
    for row in read_table("sets.csv"):
        name, _, split = row["set"].partition("@")
        if split:
            assert int(row["pictures"]) == len(rows_of(name, split)), row["set"]


def test_every_package_is_known():
    known = {row["package"] for row in read_table("packages.csv")}
    assert {row["package"] for name in LISTED for row in read_table(f"{name}.csv")} <= known
    assert all(row["sha256"] and row["version"] for row in read_table("packages.csv") if row["registry"] == "npm")


def test_shipped_weights_see_free_pictures_only():
    assert {row["licence"] for row in rows_of("photos", "train")} <= FREE
    trains = {row["set"] for row in read_table("sets.csv") if row["trains"] == "yes"}
    assert trains == {"pictograms:google", "pictograms:twitter", "photos@train"}


@pytest.mark.parametrize(("name", "least", "share"), [("animals", 3, 4), ("faces", 10, 5)])
def test_held_out_are_the_lowest_hashes_of_every_label(name, least, share):
    labels = defaultdict(lambda: {"train": [], "heldout": []})
    for row in read_table(f"{name}.csv"):
        labels[row["label"]][row["split"]].append(row["sha256"])
    for label, sides in labels.items():
        whole = len(sides["train"]) + len(sides["heldout"])
        # Of faces, near-duplicates of what is held out are in no split.
        expected = 2 if name == "faces" else max(1, whole // share) if whole >= least else 0
        assert len(sides["heldout"]) == expected, label
        assert not expected or max(sides["heldout"]) < min(sides["train"]), label
