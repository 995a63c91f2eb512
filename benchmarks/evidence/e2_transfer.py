"""E2: transfer of the space to data that it was not made from.

The SKB holds two vendors' pictograms; encoders learned from them and from crops of photographs. They are asked about
the things that a third vendor draws, which must be found among the SKB's pictures by label; and about animals and faces
of which the terminal has a private knowledge base (animals@train, faces@train). The nearest entry answers. All vectors
are 16-byte codes. Beside CRLSC's encoder: the teacher in the same space, which a terminal cannot afford; and the trunk
that the encoder starts from with ImageNet's weights as they are, whose features travel without loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import (
    UNSEEN,
    Budget,
    Lab,
    Results,
    Space,
    as_digits,
    encode,
    from_digits,
    interval,
    percent,
    planes,
    signed,
    table,
)
from numpy.typing import NDArray
from terminal import Pooled, new_encoder, outputs

from crlsc_phy.data import open_images
from crlsc_phy.figure import INK, drawing
from crlsc_phy.images import UInt8Image

TITLE = "Transfer to other data"
SIZES = ("large",)
NEEDS = ("encoder/large",)
REPEATED = True

NAMES = {"teacher": "teacher", "crlsc": "CRLSC's encoder", "imagenet": "ImageNet's trunk"}
SETS = {"fluent": "third vendor", "animals": "animals", "faces": "faces"}


def arms(_lab: Lab) -> list[str]:
    """Name the embedders."""
    return list(NAMES)


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    public = lab.run_of(seed).recipe.data.public
    pairs = {
        "fluent": (public, UNSEEN),
        "animals": (("animals@train",), "animals@heldout"),
        "faces": (("faces@train",), "faces@heldout"),
    }
    hits, entries = {}, {}
    for name, (known, asked) in pairs.items():
        labels = np.array([label for each in known for label in open_images(each, lab.data).labels])
        wanted = open_images(asked, lab.data).labels
        rows = [row for row, label in enumerate(wanted) if label and label in set(labels.tolist())]
        base = _vectors(lab, seed, arm, lab.squares(*known))
        query = _vectors(lab, seed, arm, lab.squares(asked)[rows])
        distances = (base**2).sum(axis=1) - 2 * query @ base.T
        # An entry without a label names nothing.
        distances[:, labels == ""] = np.inf
        hits[name] = as_digits(labels[distances.argmin(axis=1)] == np.array(wanted)[rows])
        entries[name] = {"entries": len(labels), "labels": len(set(labels.tolist()) - {""}), "asked": len(rows)}
    return {"sets": entries, "hits": hits}


def _vectors(lab: Lab, seed: int, arm: str, images: UInt8Image) -> NDArray[np.float32]:
    run, (size,) = lab.run_of(seed), SIZES
    if arm == "imagenet":
        config = run.recipe.encoder.sizes[size]
        trunk = Pooled(new_encoder(config, pretrained=True), with_head=False).eval()
        features = outputs(trunk, planes(images), config.pixels).numpy()
        return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))
    vectors = Space(run).place(images) if arm == "teacher" else encode(run, size, images)
    return run.air_code.decode(run.air_code.encode(vectors))


def _of(rows: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    return from_digits([row["hits"][name] for row in rows])


def report(results: Results, _budget: Budget) -> str:
    sets = results["crlsc"][0]["sets"]
    head = ["nearest entry right [%]", *SETS.values()]
    rows = [[NAMES[arm], *(percent(_of(found, name)) for name in SETS)] for arm, found in results.items()]
    sizes = "; ".join(
        f"{said}: {sets[name]['asked']} pictures asked among {sets[name]['entries']} entries of "
        f"{sets[name]['labels']} labels"
        for name, said in SETS.items()
    )
    ours = {name: _of(results["crlsc"], name) for name in SETS}
    gaps = "; ".join(
        f"{said} {signed(100 * (ours[name] - _of(results['imagenet'], name)), 1)} points against ImageNet's trunk, "
        f"{signed(100 * (ours[name] - _of(results['teacher'], name)), 1)} against the teacher"
        for name, said in SETS.items()
    )
    return f"{sizes}.\n\n{table(head, rows)}\n\nCRLSC's encoder, picture by picture: {gaps}."


def plot(_lab: Lab, results: Results, path: Path) -> None:
    with drawing(path, 760, 400) as figure:
        axes = figure.subplots()
        places = np.arange(len(SETS))
        for number, (arm, rows) in enumerate(results.items()):
            means, low, high = 100 * np.array([interval(_of(rows, name)) for name in SETS]).T
            spread, at = [means - low, high - means], places + 0.27 * (number - 1)
            axes.bar(at, means, 0.25, yerr=spread, capsize=3, ecolor=INK, label=NAMES[arm])
        axes.set_xticks(places, list(SETS.values()))
        axes.set(ylabel="nearest entry right [%]", title="Data that the space was not made from", ylim=(0, 112))
        axes.legend(ncols=3, fontsize=8, loc="upper left")
