"""The ``bundle`` stage: the measured draft with its metrics and model card, put in place at once.

It is the last stage, and the only one whose result is outside the run's folder. Each call makes it again.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.train.card import model_card
from crlsc_phy.train.evaluate import DRAFT, METRICS, write_draft_manifest
from crlsc_phy.train.pipeline import DONE, Run

__all__ = ["write_bundle"]


def write_bundle(run: Run, target: Path) -> dict[str, Any]:
    """Write the bundle of ``run`` to the folder ``target``, which is replaced, and return its metrics.

    Raises:
        TrainingError: If the run has not been evaluated.
    """
    measured = run.folder / "evaluate"
    if not (measured / DONE).exists():
        raise TrainingError(f"bundle: needs {measured}, which is missing; run crlsc-train evaluate")
    metrics: dict[str, Any] = json.loads((measured / METRICS).read_text(encoding="utf-8"))
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(measured / DRAFT, aside)
    shutil.copyfile(measured / METRICS, aside / METRICS)
    write_text(aside / "MODEL_CARD.md", model_card(run, metrics))
    write_draft_manifest(run, aside)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return metrics
