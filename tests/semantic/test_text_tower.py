"""The small text tower: what it reads of a text, and its files."""

import json

import pytest
import torch
from safetensors.torch import save_file

from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.teacher import embed_texts
from crlsc_phy.semantic.text import TEXT_TOWER, TextConfig, TextTower, frequent_tokens

CAPTIONS = ["a picture of a red apple", "a picture of a green apple", "a picture of a hedgehog"]


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return TextTower(TextConfig(dim=24, width=32, layers=1, context=8, tokens=frequent_tokens(CAPTIONS, 100))).eval()


def test_the_most_frequent_tokens_of_the_captions_are_kept():
    assert set(frequent_tokens(CAPTIONS, 3)) == {"a</w>", "picture</w>", "of</w>"}
    assert "hedgehog</w>" in frequent_tokens(CAPTIONS, 100)


def test_words_that_it_does_not_know_are_left_out(tower):
    rows = tower.tokens(["A Red apple", "a red carburettor apple", "a picture of a red apple of a green apple"])
    assert torch.equal(rows[0], rows[1])
    # The end is the highest row, where open_clip pools, also of a text that is cut.
    assert rows.shape == (3, 8)
    assert rows[0].argmax() == 4
    assert rows[2].argmax() == 7
    directions = tower.embed(["a red apple", "an apple", "a green apple"])
    assert torch.allclose(directions.norm(dim=1), torch.ones(3), atol=1e-5)
    assert not torch.allclose(directions[0], directions[2], atol=1e-3)


def test_what_stands_beside_a_text_in_a_batch_does_not_change_it(tower):
    alone = tower.embed(["a red apple"])
    assert torch.allclose(tower.embed(["a picture of a red apple", "a red apple"])[1:], alone, atol=1e-5)


def test_a_text_without_a_known_word_is_refused(tower):
    with pytest.raises(TrainingError, match="'carburettor': no word of it occurs in the captions"):
        tower.embed(["a red apple", "carburettor"])


def test_it_comes_back_from_its_files_in_half_precision_too(tower, tmp_path):
    tower.save_config(tmp_path)
    save_file({name: tensor.half() for name, tensor in tower.state_dict().items()}, tmp_path / TEXT_TOWER)
    texts = ["a red apple", "a hedgehog"]
    assert torch.allclose(TextTower.load(tmp_path).embed(texts), tower.embed(texts), atol=5e-3)
    assert torch.allclose(embed_texts("lite0", texts, tmp_path), tower.embed(texts), atol=5e-3)


@pytest.mark.parametrize("damage", ["absent", "not json", "another size", "cut"])
def test_damaged_files_are_named(tower, tmp_path, damage):
    if damage != "absent":
        tower.save_config(tmp_path)
        save_file(tower.state_dict(), tmp_path / TEXT_TOWER)
    if damage == "not json":
        (tmp_path / "vocabulary.json").write_text("{")
    if damage == "another size":
        content = json.loads((tmp_path / "vocabulary.json").read_text())
        (tmp_path / "vocabulary.json").write_text(json.dumps({**content, "layers": 2}))
    if damage == "cut":
        content = (tmp_path / TEXT_TOWER).read_bytes()
        (tmp_path / TEXT_TOWER).write_bytes(content[:100])
    with pytest.raises(TrainingError, match="its text tower is missing or damaged") as caught:
        TextTower.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), [({"width": 40}, "multiple of 32"), ({"context": 2}, "3 or more")])
def test_sizes_that_do_not_work_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        TextConfig(**({"dim": 8, "width": 32, "layers": 1, "context": 8, "tokens": ()} | changes))
