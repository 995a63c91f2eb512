"""`crlsc-train data`: the list and the check of splits."""

import json

import numpy as np
import pytest

from crlsc_phy.cli.train import main
from crlsc_phy.cli.train_data import PARTS
from crlsc_phy.data import read_table
from crlsc_phy.data.store import save_arrays


@pytest.fixture
def folder(tmp_path, photo):
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    save_arrays(tmp_path / "photos-train.npz", {"a": photo, "b": noise[0]})
    save_arrays(tmp_path / "photos-heldout.npz", {"c": noise[1], "d": photo[::2, ::2]})
    return tmp_path


def test_the_list_says_what_is_there(folder, capsys):
    assert main(["data", "--list", "--data", str(folder)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["photos@train"].endswith("yes")
    assert lines["faces@train"].endswith("crlsc-train data faces")
    assert main(["data", "--list", "--json", "--data", str(folder)]) == 0
    rows = {row["set"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["animals@train"]["for shipped weights"] == "no"


def test_the_check_finds_a_copy(folder, capsys):
    arguments = ["data", "--data", str(folder), "--check", "photos@train", "photos@heldout"]
    assert main(arguments) == 2
    out = capsys.readouterr().out
    assert out.startswith("a  d  ")
    assert "1 of 2 pictures of photos@train have an equal or near-duplicate among the 2 of photos@heldout" in out
    assert main([*arguments, "--json"]) == 2
    (pair,) = json.loads(capsys.readouterr().out)
    assert (pair["first"], pair["second"]) == ("a", "d")


def test_a_set_is_not_checked_against_itself(folder, capsys):
    assert main(["data", "--data", str(folder), "--check", "photos@train", "photos@train"]) == 2
    assert "are the same set" in capsys.readouterr().err


def test_an_unknown_part_is_refused(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["data", "plants", "--data", str(folder)])
    assert "'plants' is unknown; choose default, animals, faces or all" in capsys.readouterr().err


def test_the_parts_are_those_of_the_table():
    assert set(PARTS) == {row["part"] for row in read_table("sets.csv")}
