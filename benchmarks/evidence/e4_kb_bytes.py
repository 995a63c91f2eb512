"""E4: bytes of a knowledge base's entry against retrieval.

The shared knowledge base is coded at 8 to 64 bytes an entry, by codes trained on itself, and asked with pictures of the
unseen vendor. A picture is found if an entry with its label is among the nearest; all entries compete. In the second
half of the table the query has travelled too, coded like the entries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import UNSEEN, Budget, Lab, Results, Space, as_digits, encode, from_digits, interval, percent, table
from numpy.typing import NDArray

from crlsc_phy.data import open_images
from crlsc_phy.figure import drawing
from crlsc_phy.knowledge import AirCode

TITLE = "Bytes of a knowledge base against retrieval"
SIZES = ("large",)
NEEDS = ("encoder/large",)
REPEATED = True
CODE_BYTES = (8, 16, 32, 64)
DEPTHS = (1, 5)
FLOAT = "float"

Floats = NDArray[np.float32]


def arms(_lab: Lab) -> list[str]:
    """Name the embedders of the query."""
    return ["teacher", *SIZES]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    run = lab.run_of(seed)
    space = Space(run)
    labels = [entry.label for entry in run.knowledge.entries]
    asked = open_images(UNSEEN, lab.data)
    known = [row for row, label in enumerate(asked.labels) if label in set(labels)]
    images = lab.squares(UNSEEN)[known]
    query = space.place(images) if arm == "teacher" else encode(run, arm, images)
    base = np.concatenate([space.place(lab.squares(*run.recipe.data.public)), space.classes])
    names, wanted = np.array(labels), np.array([asked.labels[row] for row in known])
    found = {FLOAT: _hits(query, base, names, wanted)}
    for size in CODE_BYTES:
        code = AirCode.train(base, size, seed, polysemous=False)
        coded, sent = code.decode(code.encode(base)), code.decode(code.encode(query))
        found[str(size)] = _hits(query, coded, names, wanted)
        found[f"{size} sent"] = _hits(sent, coded, names, wanted)
    return {"asked": len(wanted), "entries": len(names), "dim": base.shape[1], "hits": found}


def _hits(query: Floats, base: Floats, names: NDArray[np.str_], wanted: NDArray[np.str_]) -> dict[str, str]:
    near = np.argsort(((base**2).sum(axis=1) - 2 * query @ base.T), axis=1, kind="stable")[:, : max(DEPTHS)]
    right = names[near] == wanted[:, None]
    return {str(depth): as_digits(right[:, :depth].any(axis=1)) for depth in DEPTHS}


def _of(rows: list[dict[str, Any]], size: str, depth: int) -> NDArray[np.float64]:
    return from_digits([row["hits"][size][str(depth)] for row in rows])


def report(results: Results, _budget: Budget) -> str:
    some = next(iter(results.values()))[0]
    coded = [str(size) for size in CODE_BYTES]
    places = [(FLOAT, 4 * some["dim"], ""), *((size, size, "") for size in coded)]
    places += [(f"{size} sent", size, ", query too") for size in coded]
    head = ["bytes an entry", *(f"{arm}, recall@{depth} [%]" for arm in results for depth in DEPTHS)]
    rows = [
        [f"{count} ({FLOAT})" if key == FLOAT else f"{count}{note}"]
        + [percent(_of(rows, key, depth)) for rows in results.values() for depth in DEPTHS]
        for key, count, note in places
    ]
    lost = {arm: interval(_of(rows, "16 sent", 1) - _of(rows, FLOAT, 1)) for arm, rows in results.items()}
    text = "; ".join(
        f"{arm} {100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        for arm, (mean, low, high) in lost.items()
    )
    return (
        f"{some['asked']} pictures of the unseen vendor are asked for among {some['entries']} entries.\n\n"
        f"{table(head, rows)}\n\n"
        f"The 16 bytes that the default bundle sends, against floats on both sides, at recall@1: {text}."
    )


def plot(_lab: Lab, results: Results, path: Path) -> None:
    with drawing(path, 760, 420) as figure:
        axes = figure.subplots()
        for number, (arm, rows) in enumerate(results.items()):
            for note, line in (("", "-"), (" sent", ":")):
                values = [interval(_of(rows, f"{size}{note}", 1)) for size in CODE_BYTES]
                means, low, high = 100 * np.array(values).T
                label = f"{arm}{', query coded too' if note else ''}"
                spread = [means - low, high - means]
                axes.errorbar(CODE_BYTES, means, spread, fmt=f"o{line}", ms=4, color=f"C{number}", label=label)
            flat = 100 * interval(_of(rows, FLOAT, 1))[0]
            axes.axhline(flat, color=f"C{number}", lw=1, ls="--", label=f"{arm}, float")
        axes.set_xscale("log", base=2)
        axes.set_xticks(CODE_BYTES, [str(size) for size in CODE_BYTES])
        axes.set(xlabel="bytes an entry", ylabel="recall@1 [%]", title="Unseen vendor, found among all entries")
        axes.legend(fontsize=8)
