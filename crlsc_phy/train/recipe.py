"""A recipe: everything that decides what a bundle becomes, as validated dataclasses read from YAML and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from crlsc_phy.errors import TrainingError
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


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures the stages see; each is a set as :func:`crlsc_phy.data.open_images` takes it.

    Attributes:
        public: What the server embeds into the shared knowledge base, with the names it has.
        photos: Photographs whose crops every stage learns from; they need no names.
        private: What a terminal embeds into its private knowledge base.
        asked: Held out: pictures whose labels must be recognised among the public ones.
        heldout: Held out: photographs to reconstruct.
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
        batch: Samples a step, in each process.
        learning_rate: Of AdamW, at its highest.
        check_every: Steps between two checkpoints, and between two looks at the validation loss.
        patience: Looks in a row without a better validation loss after which a loop ends early; 0 never does.
    """

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1e-3
    check_every: int = 500
    patience: int = 0


@dataclass(frozen=True)
class TextRecipe:
    """A text tower beside an image tower that has none.

    Attributes:
        width, layers, context: Sizes, see :class:`crlsc_phy.semantic.text.TextConfig`.
        vocabulary: Tokens that it may know at most.
        loop: Budget.
    """

    width: int = 128
    layers: int = 1
    context: int = 16
    vocabulary: int = 3000
    loop: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=800, batch=256, learning_rate=2e-3))


@dataclass(frozen=True)
class TeacherRecipe:
    """The server's large model.

    Attributes:
        tower: Name of the teacher, see :mod:`crlsc_phy.semantic.teacher`.
        text: The text tower that is trained beside it; none if it has one, or is not to be asked with words.
    """

    tower: str = "lite0"
    text: TextRecipe | None = None


@dataclass(frozen=True)
class SkbRecipe:
    """The shared space, its air code and the shared knowledge base.

    Attributes:
        pixels: Image sizes whose features train the head; the last one makes the knowledge base.
        photo_crops: Crops of photographs that the space and the air code must also cover.
        steps: Steps of the head.
        code_bytes: Length of the air code.
        order_rounds: Annealing rounds that order the centroids of the air code.
    """

    pixels: tuple[int, ...] = (112, 224, 160)
    photo_crops: int = 4000
    steps: int = 300
    code_bytes: int = 16
    order_rounds: int = 500_000


@dataclass(frozen=True)
class EncoderRecipe:
    """The terminals' encoders.

    Attributes:
        sizes: One encoder each, by name; the first is the one that a codec takes unless told otherwise.
        trained_stages: How many of the last stages of their trunks are trained; those before keep their ImageNet
            weights. With few photographs to learn from, they would forget what the ones not seen look like.
        loop: Budget of each.
    """

    sizes: Mapping[str, EncoderConfig] = field(default_factory=lambda: {"large": EncoderConfig()})
    trained_stages: int = 7
    loop: LoopRecipe = field(default_factory=LoopRecipe)


@dataclass(frozen=True)
class DecoderRecipe:
    """The decoders.

    Attributes:
        tasks: Which ones, of :data:`crlsc_phy.train.tasks.TASKS`.
        detail: Sizes of the detail coder.
        alone, conditioned: Budgets of its two phases.
        broken_share: Part of a batch in which bits of the tokens are flipped. The modem erases what its CRCs reject, so
            that no such token reaches the decoder; a receiver that passes them on gains, at a price for whole pictures.
        head_steps: Steps of the linear head that classifies.
    """

    tasks: tuple[str, ...] = ("reconstruction", "classification", "retrieval")
    detail: DetailConfig = field(default_factory=DetailConfig)
    alone: LoopRecipe = field(default_factory=LoopRecipe)
    conditioned: LoopRecipe = field(default_factory=LoopRecipe)
    broken_share: float = 0.0
    head_steps: int = 300


@dataclass(frozen=True)
class AnalogRecipe:
    """Analog detail.

    Attributes:
        coder: Sizes of the analog coder.
        alone, conditioned: Budgets of its two phases; without steps of ``alone`` the bundle has no analog coder and
            sends the latent of the detail coder in its place.
    """

    coder: AnalogConfig = field(default_factory=AnalogConfig)
    alone: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=0))
    conditioned: LoopRecipe = field(default_factory=LoopRecipe)


@dataclass(frozen=True)
class Recipe:
    """A whole bundle.

    Attributes:
        name: Name of the bundle.
        seed: Seed of every stage.
        threads: Threads of the training loops.
        notes: What the model card says of the data and of limits, beyond the figures.
        data, teacher, skb, encoder, decoder, analog: What the stages need.
    """

    name: str = "default"
    seed: int = 0
    threads: int = 1
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
            raise TrainingError(f"dim {dim} is no multiple of skb.code_bytes {self.skb.code_bytes}")

    @property
    def dim(self) -> int:
        """Size of the shared space."""
        return self.decoder.detail.semantic_dim

    @property
    def encoder_name(self) -> str:
        """The encoder that a codec takes unless told otherwise."""
        return next(iter(self.encoder.sizes))


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: A YAML file, or the name of a recipe that ships with the package.
        changes: Options that take the place of the file's, such as ``encoder.loop.steps=10``; the value is YAML.

    Raises:
        TrainingError: If the file is missing or not YAML, or a key or a type is wrong.
    """
    return as_recipe(_OPTIONS.load(name, resources.files("crlsc_phy.train") / "recipes", changes), str(name))


def as_recipe(content: Any, where: str) -> Recipe:
    """A recipe from plain mappings, such as a bundle's manifest keeps; ``where`` they are from is for messages.

    Raises:
        TrainingError: If a key or a type is wrong.
    """
    return _OPTIONS.build(Recipe, content, where)
