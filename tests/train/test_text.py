"""A bundle whose teacher has a text tower: its knowledge base is searched with words."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, SIMPLE_IMAGENET_TEMPLATES
from safetensors.numpy import load_file

from crlsc_phy.cli import kb
from crlsc_phy.cli.kb_images import embedded_text
from crlsc_phy.cli.train import main
from crlsc_phy.knowledge import KnowledgeBase


@pytest.mark.slow
def test_words_lie_where_the_space_has_their_classes(tiny_data, tiny_recipe, tmp_path, capsys):
    """The teacher is one of open_clip's with random weights: only whether its parts fit together is asked."""
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), tmp_path / "clip.pt")
    arguments = ["run", str(tiny_recipe), "--data", str(tiny_data), "--run", str(tmp_path / "run")]
    arguments += ["--set", f"teacher.tower=open_clip:ViT-S-32-alt:{tmp_path / 'clip.pt'}", "skb.pixels=[32, 224]"]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 0
    capsys.readouterr()

    # A class's place in the space is that of the mean of its name in several sentences.
    code = KnowledgeBase.open(tmp_path / "bundle/skb").air_code
    texts = [template("teapot") for template in SIMPLE_IMAGENET_TEMPLATES]
    parts = np.concatenate([embedded_text(tmp_path / "bundle", text, code) for text in texts])
    direction = load_file(tmp_path / "run/teacher/classes.safetensors")["directions"][
        IMAGENET_CLASSNAMES.index("teapot")
    ]
    placed = load_file(tmp_path / "run/skb/head.safetensors")["linear.weight"] @ direction
    assert np.abs(np.linalg.norm(parts, axis=1) - 1).max() < 1e-5
    mean = parts.mean(axis=0)
    assert mean @ placed / np.linalg.norm(mean) / np.linalg.norm(placed) > 0.99

    arguments = ["search", tmp_path / "bundle/skb", "--text", texts[0], "--bundle", tmp_path / "bundle", "--json"]
    assert kb.main([str(argument) for argument in arguments]) == 0
    hits = json.loads(capsys.readouterr().out)
    (expected,) = KnowledgeBase.open(tmp_path / "bundle/skb").search(parts[:1], 5)
    assert [hit["name"] for hit in hits] == [hit.name for hit in expected]
