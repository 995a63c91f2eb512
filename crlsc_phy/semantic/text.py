"""Small text tower that is trained beside a locked image tower, and its vocabulary.

    vocabulary.json           sizes, and known tokens in the order of their rows
    text_tower.safetensors    weights

Method: X. Zhai et al., "LiT: zero-shot transfer with locked-image text tuning", CVPR 2022. The tokens are those of
CLIP's byte-pair encoding that occur in the captions of the training: a few thousand of 49,408, so that the tower takes
a few megabytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.errors import TrainingError, brief
from crlsc_phy.files import write_text

__all__ = ["TEXT_TOWER", "VOCABULARY", "TextConfig", "TextTower", "frequent_tokens"]

VOCABULARY, TEXT_TOWER = "vocabulary.json", "text_tower.safetensors"
HEAD_WIDTH = 32
PAD, START, FIRST = 0, 1, 2


@dataclass(frozen=True)
class TextConfig:
    """Sizes and vocabulary of a text tower.

    Attributes:
        dim: Size of the image tower's features.
        width: Width of the transformer, a multiple of 32.
        layers: Number of layers of the transformer.
        context: Longest caption in tokens, including the two that begin and end it.
        tokens: Known tokens, as CLIP's tokenizer spells them.

    Raises:
        TrainingError: If a size is out of range.
    """

    dim: int
    width: int
    layers: int
    context: int
    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.width % HEAD_WIDTH or self.width < HEAD_WIDTH:
            raise TrainingError(f"teacher.text.width is {self.width}; it must be a multiple of {HEAD_WIDTH}")
        if self.context < 3 or self.layers < 1:
            raise TrainingError("teacher.text: context must be 3 or more, layers 1 or more")


def frequent_tokens(captions: Iterable[str], count: int) -> tuple[str, ...]:
    """Return the ``count`` most frequent tokens of ``captions``, as CLIP's tokenizer spells them."""
    tokenizer = _tokenizer()
    found = Counter(token for caption in captions for token in tokenizer.encode(caption))
    return tuple(tokenizer.decoder[token] for token, _ in found.most_common(count))


class TextTower(nn.Module):
    """open_clip's text transformer over a reduced vocabulary.

    Attention goes in both directions, which is better for captions of few words.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        encoder = _tokenizer().encoder
        self._rows = {encoder[token]: row for row, token in enumerate(config.tokens, FIRST)}
        # open_clip pools at the highest token, so the one that ends a caption is the last.
        self._end = FIRST + len(config.tokens)
        self.transformer = TextTransformer(
            context_length=config.context,
            vocab_size=self._end + 1,
            width=config.width,
            heads=config.width // HEAD_WIDTH,
            layers=config.layers,
            output_dim=config.dim,
            no_causal_mask=True,
            use_pad_mask=True,
            pad_id=PAD,
        )

    def tokens(self, texts: list[str]) -> Tensor:
        """Return the rows of the tokens of texts, int64 [N, context]; unknown tokens are left out."""
        result = torch.full((len(texts), self.config.context), PAD)
        for line, text in zip(result, texts, strict=True):
            known = [self._rows[token] for token in _tokenizer().encode(text) if token in self._rows]
            caption = [START, *known[: self.config.context - 2], self._end]
            line[: len(caption)] = torch.tensor(caption)
        return result

    def forward(self, tokens: Tensor) -> Tensor:
        """Map rows int64 [N, context] to directions among the image tower's centred features, float32 [N, dim]."""
        return F.normalize(self.transformer(tokens), dim=1)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> Tensor:
        """Return the directions of texts, float32 [N, dim] of unit norm.

        Raises:
            TrainingError: If no word of a text is known.
        """
        tokens = self.tokens(texts)
        for text, line in zip(texts, tokens, strict=True):
            if line[1] == self._end:
                raise TrainingError(
                    f"{text!r}: no word of it occurs in the captions of the text tower's training; use others"
                )
        directions: Tensor = self(tokens)
        return directions

    def save_config(self, folder: Path) -> None:
        """Write sizes and vocabulary into ``folder``."""
        write_text(folder / VOCABULARY, json.dumps(asdict(self.config)) + "\n")

    @classmethod
    def load(cls, folder: Path) -> TextTower:
        """Load the tower from the files in ``folder``.

        Raises:
            TrainingError: If they are missing or damaged.
        """
        try:
            content = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            tower = cls(TextConfig(**{**content, "tokens": tuple(content["tokens"])}))
            tower.load_state_dict(load_file(folder / TEXT_TOWER))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise TrainingError(f"{folder}: its text tower is missing or damaged ({brief(error)})") from None
        return tower.eval()


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()
