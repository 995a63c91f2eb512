"""Recipe of a bundle: all options of its training, as validated dataclasses read from YAML and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from crlsc_phy.errors import TrainingError
from crlsc_phy.frame import MAX_SEMANTIC_BYTES
from crlsc_phy.options import Options
from crlsc_phy.semantic.analog_coder import AnalogConfig
from crlsc_phy.semantic.detail import DetailConfig
from crlsc_phy.semantic.encoder import EncoderConfig

__all__ = [
    "AnalogRecipe",
    "DataRecipe",
    "DecoderRecipe",
    "EncoderRecipe",
    "LoopRecipe",
    "Recipe",
    "SkbRecipe",
    "TeacherRecipe",
    "TextRecipe",
    "as_recipe",
    "load_recipe",
]

_OPTIONS = Options(TrainingError, "encoder.loop.steps=10")
_Count = Annotated[int, Field(ge=1)]
_Budget = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class DataRecipe:
    """Pictures that the stages see; each is a set as :func:`crlsc_phy.data.open_images` takes it.

    Attributes:
        public: Pictures with names that the server embeds into the shared knowledge base.
        photos: Photographs whose crops every stage learns from; they need no names.
        private: Pictures that a terminal embeds into its private knowledge base.
        asked: Held-out pictures whose labels must be recognised among the public ones.
        heldout: Held-out photographs to reconstruct.
    """

    public: tuple[str, ...] = ("pictograms:google", "pictograms:twitter")
    photos: tuple[str, ...] = ("photos@train",)
    private: tuple[str, ...] = ()
    asked: tuple[str, ...] = ("things:fluent",)
    heldout: tuple[str, ...] = ("photos@heldout",)


@dataclass(frozen=True)
class LoopRecipe:
    """Budget of one training loop.

    Attributes:
        steps: Optimiser steps.
        batch: Samples of a step, in each process.
        learning_rate: Highest learning rate of AdamW.
        check_every: Steps from one checkpoint, and evaluation of the validation loss, to the next.
        patience: Evaluations in a row without a better validation loss after which a loop ends early; 0 never does.
    """

    steps: _Budget = 1000
    batch: _Count = 64
    learning_rate: Annotated[float, Field(ge=0)] = 1e-3
    check_every: _Count = 500
    patience: _Budget = 0


@dataclass(frozen=True)
class TextRecipe:
    """Text tower beside an image tower that has none.

    Attributes:
        width, layers, context: Sizes, see :class:`crlsc_phy.semantic.text.TextConfig`.
        vocabulary: Largest number of tokens that it knows.
        loop: Budget of its training.
    """

    width: _Count = 128
    layers: _Count = 1
    context: _Count = 16
    vocabulary: _Count = 3000
    loop: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=800, batch=256, learning_rate=2e-3))


@dataclass(frozen=True)
class TeacherRecipe:
    """Large model of the server.

    Attributes:
        tower: Name of the teacher, see :mod:`crlsc_phy.semantic.teacher`.
        text: Text tower that is trained beside it; None if it has one, or none is needed.
    """

    tower: str = "lite0"
    text: TextRecipe | None = None


@dataclass(frozen=True)
class SkbRecipe:
    """Shared space, its air code and the shared knowledge base.

    Attributes:
        pixels: Image sizes whose features train the head; the last one is that of the knowledge base.
        photo_crops: Number of crops of photographs that the space and the air code must also cover.
        steps: Optimiser steps of the head.
        code_bytes: Length of the air code in bytes.
        order_rounds: Annealing rounds that order the centroids of the air code.
    """

    pixels: tuple[_Count, ...] = (112, 224, 160)
    photo_crops: _Budget = 4000
    steps: _Budget = 300
    code_bytes: Annotated[int, Field(ge=1, le=MAX_SEMANTIC_BYTES)] = 16
    order_rounds: _Budget = 500_000


@dataclass(frozen=True)
class EncoderRecipe:
    """Encoders of the terminals.

    Attributes:
        sizes: Encoders by name; a codec takes the first one by default.
        trained_stages: Number of the last stages of their trunks that are trained; those before keep their ImageNet
            weights. Trained with few photographs, they would forget what other pictures look like.
        loop: Budget of each encoder.
    """

    sizes: Mapping[str, EncoderConfig] = field(default_factory=lambda: {"large": EncoderConfig()})
    trained_stages: _Budget = 7
    loop: LoopRecipe = field(default_factory=LoopRecipe)


@dataclass(frozen=True)
class DecoderRecipe:
    """Decoders of the terminals.

    Attributes:
        tasks: Names of :data:`crlsc_phy.train.tasks.TASKS`.
        detail: Sizes of the detail coder.
        alone, conditioned: Budgets of its two phases.
        broken_share: Fraction of a batch in which bits of the tokens are flipped. The modem erases tokens that its CRCs
            reject, so that none reaches the decoder. A receiver that passes them on gains, but loses on whole pictures.
        head_steps: Optimiser steps of the linear head that classifies.
    """

    tasks: tuple[str, ...] = ("reconstruction", "classification", "retrieval")
    detail: DetailConfig = field(default_factory=DetailConfig)
    alone: LoopRecipe = field(default_factory=LoopRecipe)
    conditioned: LoopRecipe = field(default_factory=LoopRecipe)
    broken_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    head_steps: _Budget = 300


@dataclass(frozen=True)
class AnalogRecipe:
    """Analog detail.

    Attributes:
        coder: Sizes of the analog coder.
        alone, conditioned: Budgets of its two phases. If ``alone`` has no steps, the bundle has no analog coder and
            sends the latent of the detail coder in its place.
    """

    coder: AnalogConfig = field(default_factory=AnalogConfig)
    alone: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=0))
    conditioned: LoopRecipe = field(default_factory=LoopRecipe)


@dataclass(frozen=True)
class Recipe:
    """Recipe of a whole bundle.

    Attributes:
        name: Name of the bundle.
        seed: Seed of every stage.
        threads: Number of threads of the training loops.
        notes: Text about the data and limits for the model card, beyond the figures.
        data, teacher, skb, encoder, decoder, analog: Options of the stages.

    Raises:
        TrainingError: If options of several stages do not go together.
    """

    name: str = "default"
    seed: _Budget = 0
    threads: _Count = 1
    notes: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    skb: SkbRecipe = field(default_factory=SkbRecipe)
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    analog: AnalogRecipe = field(default_factory=AnalogRecipe)

    def __post_init__(self) -> None:
        if not self.encoder.sizes:
            raise TrainingError("encoder.sizes is empty; name at least one encoder")
        dim = self.decoder.detail.semantic_dim
        for name, config in self.encoder.sizes.items():
            if config.dim != dim:
                raise TrainingError(f"encoder.sizes.{name}.dim is {config.dim} but detail.semantic_dim is {dim}")
        if self.analog.alone.steps and self.analog.coder.semantic_dim != dim:
            wrong = self.analog.coder.semantic_dim
            raise TrainingError(f"analog.coder.semantic_dim is {wrong} but detail.semantic_dim is {dim}")
        if dim % self.skb.code_bytes:
            raise TrainingError(f"skb.code_bytes is {self.skb.code_bytes}; it must divide detail.semantic_dim, {dim}")

    @property
    def dim(self) -> int:
        """Size of the shared space."""
        return self.decoder.detail.semantic_dim

    @property
    def encoder_name(self) -> str:
        """Name of the encoder that a codec takes by default."""
        return next(iter(self.encoder.sizes))


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: A YAML file, or the name of a recipe that ships with the package.
        changes: Options that take the place of the file's, such as ``encoder.loop.steps=10``; the value is YAML.

    Raises:
        TrainingError: If the file is missing or not YAML, or an option is unknown, of another type or out of range.
    """
    return as_recipe(_OPTIONS.load(name, resources.files("crlsc_phy.train") / "recipes", changes), str(name))


def as_recipe(content: Any, where: str) -> Recipe:
    """Return a recipe of plain mappings, such as the manifest of a bundle has; messages begin with ``where``.

    Raises:
        TrainingError: If an option is unknown, of another type or out of range.
    """
    return _OPTIONS.build(Recipe, content, where)
