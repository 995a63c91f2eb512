"""Execution of the steps of a recipe, in order; finished steps are skipped.

A step writes its results into a folder of its own below the run's, and a stamp beside them: its options and the digests
of its inputs. With the same stamp a step is not run again. With another one it is refused rather than overwritten,
unless it is forced. Checkpoints, logs and caches of a step are in its folder ``work``.

    runs/NAME/STEP/done.json     the stamp, with the digest of the results
    runs/NAME/STEP/begun.json    the stamp of an unfinished step, which the next run resumes
    runs/NAME/STEP/work/         checkpoints, logs, caches
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import load_file

from crlsc_phy.data import open_images, opened_once
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import sha256_of, write_text
from crlsc_phy.knowledge import AirCode, KnowledgeBase
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.train.ranks import is_first_rank, wait_for_all
from crlsc_phy.train.recipe import Recipe

__all__ = ["Run", "Step", "different_options", "run_steps"]

DONE, BEGUN, WORK = "done.json", "begun.json", "work"
ORIGIN, CPU_SECONDS = "origin.json", "cpu_seconds.json"


@dataclass(frozen=True)
class Run:
    """Recipe with its folders.

    Attributes:
        recipe: Recipe of the bundle.
        data: Folder of the data sets, as ``crlsc-train data`` fills it.
        folder: Folder of results and checkpoints.
        jobs: Number of processes that embed pictures.
        ray: Address of a Ray cluster that embeds them instead, ``local`` to start one here; empty for none.
    """

    recipe: Recipe
    data: Path
    folder: Path
    jobs: int = 1
    ray: str = ""

    @property
    def knowledge(self) -> KnowledgeBase:
        """Shared knowledge base of the ``skb`` stage."""
        return KnowledgeBase.open(self.folder / "skb/skb")

    @property
    def origin(self) -> dict[str, Any] | None:
        """``name``, ``id`` and ``repair`` of the bundle that the run has started from; None if from none."""
        return _read(self.folder / "skb" / ORIGIN)

    @property
    def air_code(self) -> AirCode:
        """Air code of the shared knowledge base."""
        return self.knowledge.air_code

    def load_encoder(self, name: str = "") -> LocalEncoder:
        """Return an encoder of the ``encoder`` stage, by default the first."""
        name = name or self.recipe.encoder_name
        encoder = LocalEncoder(self.recipe.encoder.sizes[name])
        encoder.load_state_dict(load_file(self.folder / "encoder" / name / "encoder.safetensors"))
        return encoder.eval()


@dataclass(frozen=True)
class Step:
    """Piece of a stage that is finished or not.

    Attributes:
        name: Name of its folder below the run's, such as ``encoder/large``.
        work: Makes the results, given the run and the step's folder.
        options: Options of the recipe that determine the results.
        needs: Names of the steps whose results it uses.
        sets: Names of the picture sets that it reads.
        everywhere: Whether all processes of a ``torchrun`` take part; otherwise the first alone.
    """

    name: str
    work: Callable[[Run, Path], None]
    options: Any = None
    needs: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.name.partition("/")[0]


def run_steps(run: Run, steps: Sequence[Step], force: bool = False) -> None:
    """Run steps in order, without those that are finished.

    Args:
        run: Recipe and its folders.
        steps: Steps to run.
        force: Whether to run finished steps again.

    Raises:
        TrainingError: If a step lacks the results of an earlier one, or its folder cannot be written or has results of
            other options.
        DataError: If a picture set that any of the steps reads is missing.
    """
    with opened_once():
        # Missing pictures of the last step are reported now, not after hours.
        for name in dict.fromkeys(name for step in steps for name in step.sets):
            open_images(name, run.data)
        _run_steps(run, steps, force)


def _run_steps(run: Run, steps: Sequence[Step], force: bool) -> None:
    console = Console(stderr=True, quiet=not is_first_rank(), highlight=False, soft_wrap=True)
    for step in steps:
        folder = run.folder / step.name
        stamp = _stamp(run, step)
        finished = not force and _finished(folder, stamp)
        # Nobody changes the folder before all have looked at it, or goes on before all is there.
        wait_for_all()
        if finished:
            console.print(f"{step.name}: already finished")
            continue
        if is_first_rank():
            if force:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / BEGUN, json.dumps(stamp, indent=2) + "\n")
            console.print(f"{step.name}: starts")
        wait_for_all()
        if step.everywhere or is_first_rank():
            try:
                step.work(run, folder)
            except OSError as error:
                reason = error.strerror or error
                raise TrainingError(f"{folder}: cannot continue ({reason}); run it again to resume from here") from None
        if is_first_rank():
            write_text(folder / DONE, json.dumps({**stamp, "digest": _digest(folder)}, indent=2) + "\n")
            (folder / BEGUN).unlink()
        wait_for_all()


def _stamp(run: Run, step: Step) -> dict[str, Any]:
    inputs = {name: open_images(name, run.data).identity for name in step.sets}
    for name in step.needs:
        done = _read(run.folder / name / DONE)
        if done is None:
            stage = name.partition("/")[0]
            raise TrainingError(f"{step.name}: needs {run.folder / name}, which is missing; run crlsc-train {stage}")
        inputs[name] = done["digest"]
    return {"options": _plain(step.options), "inputs": inputs}


def _finished(folder: Path, stamp: Mapping[str, Any]) -> bool:
    """Return whether the step of ``folder`` is finished with ``stamp``.

    Raises:
        TrainingError: If it is finished or begun with another one.
    """
    for name in (DONE, BEGUN):
        found = _read(folder / name)
        if found is None:
            continue
        different = [*_differences(found["options"], stamp["options"]), *_differences(found["inputs"], stamp["inputs"])]
        if different:
            raise TrainingError(
                f"{folder}: was made with {'; '.join(different[:3])}; use --force to replace it, or another --work"
            )
        return name == DONE
    return False


def different_options(old: Any, new: Any) -> list[str]:
    """Return the differences of the options of two steps, each as a few words."""
    return list(_differences(_plain(old), _plain(new)))


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        # A digest of pictures or of earlier results means nothing to a reader.
        is_digest = isinstance(old, str) and isinstance(new, str) and len(old) == len(new) == 64
        yield f"another {name}" if is_digest else f"{name} {old}, now {new}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        stamp: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise TrainingError(f"{path}: is damaged; use --force to run the step again") from None
    return stamp


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in (WORK, BEGUN, DONE):
            digest.update(f"{name.as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _plain(options: Any) -> Any:
    """Return options as JSON reads them back, so that stamps can be compared."""
    plain = asdict(options) if is_dataclass(options) and not isinstance(options, type) else options
    return json.loads(json.dumps(plain, default=lambda part: asdict(part)))
