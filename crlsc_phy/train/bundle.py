"""The ``bundle`` stage: the measured draft, its metrics and its model card, put in their place at once.

It is the one stage whose result lies outside the run's folder, and the last: it is made anew at each call.
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
    """Write the bundle of ``run`` to the folder ``target``, replacing what is there; returns its metrics.

    Raises:
        TrainingError: If it has not been evaluated.
    """
    measured = run.folder / "evaluate"
    if not (measured / DONE).exists():
        raise TrainingError(f"bundle: needs {measured}, which is not there; run crlsc-train evaluate")
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
