"""The steps of a recipe in order, each skipped if what it would make is there already.

A step leaves its results in a folder of its own below the run's, and beside them a stamp: its options, and the digests
of what it was made from. With the same stamp it is not run again; with another one it is refused rather than
overwritten, unless it is forced. What a step keeps for itself (checkpoints, logs, caches) lies in its folder ``work``.

    runs/NAME/STEP/done.json     the stamp, with the digest of the results
    runs/NAME/STEP/begun.json    the stamp of a step that was cut off; called again, it goes on
    runs/NAME/STEP/work/         checkpoints, logs, caches
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import load_file

from crlsc_phy.data import open_images
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import sha256_of, write_text
from crlsc_phy.knowledge import AirCode, KnowledgeBase
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.train.ranks import is_first_rank, wait_for_all
from crlsc_phy.train.recipe import Recipe

__all__ = ["Run", "Step", "different_options", "run_steps"]

DONE, BEGUN, WORK = "done.json", "begun.json", "work"
ORIGIN = "skb/origin.json"


@dataclass(frozen=True)
class Run:
    """A recipe with its folders.

    Attributes:
        recipe: What to make.
        data: Where ``crlsc-train data`` put the sets.
        folder: Where results and checkpoints go.
        jobs: Processes that embed pictures.
        ray: Address of the Ray cluster that does it instead, ``local`` for one on this machine; empty for none.
    """

    recipe: Recipe
    data: Path
    folder: Path
    jobs: int = 1
    ray: str = ""

    @property
    def knowledge(self) -> KnowledgeBase:
        """The shared knowledge base of the ``skb`` stage."""
        return KnowledgeBase.open(self.folder / "skb/skb")

    @property
    def origin(self) -> dict[str, Any] | None:
        """``name`` and ``id`` of the bundle that the run has started from, and its ``repair``; None if from none."""
        return _read(self.folder / ORIGIN)

    @property
    def air_code(self) -> AirCode:
        """Its air code."""
        return self.knowledge.air_code

    def load_encoder(self, name: str = "") -> LocalEncoder:
        """An encoder of the ``encoder`` stage, the first unless ``name`` says which."""
        name = name or self.recipe.encoder_name
        encoder = LocalEncoder(self.recipe.encoder.sizes[name])
        encoder.load_state_dict(load_file(self.folder / "encoder" / name / "encoder.safetensors"))
        return encoder.eval()


@dataclass(frozen=True)
class Step:
    """A piece of a stage that is done or not.

    Attributes:
        name: Of its folder below the run's, such as ``encoder/large``.
        work: Makes the results; called with the run and the step's folder.
        options: What of the recipe decides them.
        needs: Steps whose results it takes.
        sets: Sets of pictures it reads.
        everywhere: Whether all processes of a ``torchrun`` work on it; otherwise the first alone.
    """

    name: str
    work: Callable[[Run, Path], None]
    options: Any = None
    needs: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def stage(self) -> str:
        """The stage that it is of."""
        return self.name.partition("/")[0]


@dataclass
class _Digests:
    """Digests of sets of pictures, each read once."""

    data: Path
    known: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = open_images(name, self.data).identity
        return self.known[name]


def run_steps(run: Run, steps: Sequence[Step], force: bool = False) -> None:
    """Run steps in order; those that are done already are passed over.

    Args:
        run: The recipe and its folders.
        steps: What to run.
        force: Whether to make anew what is there.

    Raises:
        TrainingError: If a step lacks what an earlier one makes, or its folder holds the work of other options, or
            cannot be written.
        DataError: If a set of pictures that any of the steps reads is not there.
    """
    console, digests = Console(stderr=True, quiet=not is_first_rank()), _Digests(run.data)
    # Pictures that the last step needs are missed now, not after hours.
    for name in dict.fromkeys(name for step in steps for name in step.sets):
        digests.of(name)
    for step in steps:
        folder = run.folder / step.name
        stamp = _stamp(run, step, digests)
        finished = not force and _finished(folder, stamp)
        # Nobody changes the folder before all have looked at it, or goes on before all is there.
        wait_for_all()
        if finished:
            console.print(f"{step.name}: done already", highlight=False)
            continue
        if is_first_rank():
            if force:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / BEGUN, json.dumps(stamp, indent=2) + "\n")
            console.print(f"{step.name}: begins", highlight=False)
        wait_for_all()
        if step.everywhere or is_first_rank():
            try:
                step.work(run, folder)
            except OSError as error:
                reason = error.strerror or error
                raise TrainingError(f"{folder}: cannot go on ({reason}); call it again, it goes on from here") from None
        if is_first_rank():
            write_text(folder / DONE, json.dumps({**stamp, "digest": _digest(folder)}, indent=2) + "\n")
            (folder / BEGUN).unlink()
        wait_for_all()


def _stamp(run: Run, step: Step, digests: _Digests) -> dict[str, Any]:
    inputs = {name: digests.of(name) for name in step.sets}
    for name in step.needs:
        done = _read(run.folder / name / DONE)
        if done is None:
            stage = name.partition("/")[0]
            raise TrainingError(f"{step.name}: needs {run.folder / name}, which is not there; run crlsc-train {stage}")
        inputs[name] = done["digest"]
    return {"options": _plain(step.options), "inputs": inputs}


def _finished(folder: Path, stamp: Mapping[str, Any]) -> bool:
    """Whether the step of ``folder`` is done with ``stamp``.

    Raises:
        TrainingError: If it is done, or begun, with another.
    """
    for name in (DONE, BEGUN):
        found = _read(folder / name)
        if found is None:
            continue
        different = [*_differences(found["options"], stamp["options"]), *_differences(found["inputs"], stamp["inputs"])]
        if different:
            raise TrainingError(
                f"{folder}: was made with {'; '.join(different[:3])}; --force makes it anew, another --work keeps both"
            )
        return name == DONE
    return False


def different_options(old: Any, new: Any) -> list[str]:
    """Where the options of two steps differ, each as a few words; old ones first."""
    return list(_differences(_plain(old), _plain(new)))


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        # The digests of pictures or of earlier results tell nobody anything.
        is_digest = isinstance(old, str) and isinstance(new, str) and len(old) == len(new) == 64
        yield f"another {name}" if is_digest else f"{name} {old}, now {new}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        stamp: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise TrainingError(f"{path}: is damaged; --force makes the step anew") from None
    return stamp


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in (WORK, BEGUN, DONE):
            digest.update(f"{name.as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _plain(options: Any) -> Any:
    """As JSON would give it back, so that stamps can be compared."""
    plain = asdict(options) if is_dataclass(options) and not isinstance(options, type) else options
    return json.loads(json.dumps(plain, default=lambda part: asdict(part)))
