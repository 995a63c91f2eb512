"""``crlsc-kb``: make, search, change and move knowledge bases."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crlsc_phy.cli import kb_calibrate, kb_migrate, kb_net
from crlsc_phy.cli.kb_images import DEFAULT_BUNDLE, embed_images, embedded, embedded_text
from crlsc_phy.cli.verbs import run_verb, show
from crlsc_phy.errors import KnowledgeBaseError, safe_text
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.joint import joint_search
from crlsc_phy.knowledge.verify import verify

__all__ = ["main"]

_COLUMNS = ("name", "label", "source", "licence", "caption", "path")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 (wrong input) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-kb", description="Make, search and move knowledge bases.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    build = _verb(verbs, "build", _build, "make a knowledge base from images or vectors")
    build.add_argument("--name", default="", help="name in search results (by default the folder's name)")
    build.add_argument(
        "--keep-vectors", action="store_true", help="store the vectors too, as int8, for more exact searches"
    )
    build.add_argument("--index", default="", metavar="SPEC", help="search index, such as IVF4096,PQ64x4fs;nprobe=32")
    build.add_argument("--air-code", type=Path, metavar="FILE", help="with --vectors: an air code (.safetensors)")
    build.add_argument("--code-bytes", type=int, metavar="M", help="with --vectors: train an air code of M bytes")
    build.add_argument("--seed", type=int, default=0, help="seed of the training (%(default)s)")
    _source_options(build)

    add = _verb(verbs, "add", _add, "add images or vectors")
    _source_options(add)

    info = _verb(verbs, "info", _info, "show settings and entries of a knowledge base")
    info.add_argument("--entries", type=int, default=0, metavar="N", help="list the first N entries")

    search = _verb(verbs, "search", _search, "find the nearest entries")
    search.add_argument("more", nargs="*", type=Path, metavar="PATH", help="further bases with the same air code")
    query = search.add_mutually_exclusive_group(required=True)
    query.add_argument("--image", type=Path, metavar="FILE")
    query.add_argument("--text", help="a description; the bundle's teacher must have a text tower")
    query.add_argument("--code", metavar="HEX", help="an air code")
    query.add_argument("--vectors", type=Path, metavar="FILE", help=".npy of float32 [N, D]")
    search.add_argument("-k", type=int, default=5, help="results for each query (%(default)s)")
    search.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="FOLDER", help="for --image and --text")

    remove = _verb(verbs, "remove", _remove, "remove entries")
    which = remove.add_mutually_exclusive_group(required=True)
    which.add_argument("--names", nargs="+", metavar="NAME")
    which.add_argument("--label", help="all entries with this label")

    merge = _verb(verbs, "merge", _merge, "add the entries of another knowledge base")
    merge.add_argument("other", type=Path, metavar="OTHER")

    _verb(verbs, "compact", _compact, "free the space of removed entries and earlier generations")
    check = _verb(verbs, "verify", _verify, "check the hash of every file")
    check.add_argument(
        "--repair", action="store_true", help="delete the search indexes; return to the newest undamaged generation"
    )

    kb_calibrate.add_parsers(verbs)
    kb_net.add_parsers(verbs)
    kb_migrate.add_parsers(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.add_argument("path", type=Path, metavar="PATH", help="folder of the knowledge base")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(run=run)
    return verb


def _source_options(verb: argparse.ArgumentParser) -> None:
    source = verb.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder of images; the label of an image is the name of its subfolder",
    )
    source.add_argument("--vectors", type=Path, metavar="FILE", help=".npy of float32 [N, D]; needs --entries")
    verb.add_argument("--entries", type=Path, metavar="CSV", help=f"a row for each vector: {', '.join(_COLUMNS)}")
    verb.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="FOLDER", help="encoder for --images")
    verb.add_argument("--source", default="", help="origin of the images, such as a data set")
    verb.add_argument("--licence", default="", help="SPDX identifier of the images' licence")


def _vectors(path: Path) -> npt.NDArray[np.float32]:
    try:
        array: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except (OSError, ValueError) as error:
        raise KnowledgeBaseError(f"{path}: not an array of vectors ({error})") from None


def _listed_entries(path: Path | None) -> list[Entry]:
    if path is None:
        raise KnowledgeBaseError("--vectors needs --entries, a CSV file with a row for each vector")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise KnowledgeBaseError(f"{path}: cannot be read ({error})") from None
    if rows and not {"name", "label"} <= rows[0].keys():
        raise KnowledgeBaseError(f"{path}: needs the columns name and label, but has {', '.join(rows[0])}")
    texts: list[dict[str, Any]] = [{column: row.get(column) or "" for column in _COLUMNS[2:]} for row in rows]
    return [Entry(row["name"], row["label"], **more) for row, more in zip(rows, texts, strict=True)]


def _given(
    options: argparse.Namespace, code: AirCode | None = None
) -> tuple[npt.NDArray[np.float32], list[Entry], KnowledgeBase | None, dict[str, int]]:
    """Return vectors and entries; for images also their bundle's shared base, and how many images were skipped."""
    if not options.images:
        return _vectors(options.vectors), _listed_entries(options.entries), None, {}
    images = embed_images(options.bundle, options.images, code)
    entries = [replace(entry, source=options.source, licence=options.licence) for entry in images.entries]
    return images.vectors, entries, images.bundle.knowledge, {"skipped": images.skipped}


def _build(options: argparse.Namespace) -> int:
    settings: dict[str, Any] = {"name": options.name, "keep_vectors": options.keep_vectors, "index": options.index}
    vectors, entries, shared, skipped = _given(options)
    if shared is not None:
        code = shared.air_code
        # The same encoder makes the codes, so the calibration of the shared base holds until this one has its own.
        settings |= {"aligned_to": shared.id, "tau": shared.tau, "threshold": shared.manifest.threshold}
    elif options.air_code:
        code = AirCode.load(options.air_code)
    elif options.code_bytes:
        Console(stderr=True).print(f"training an air code of {options.code_bytes} bytes")
        code = AirCode.train(np.asarray(vectors, np.float32), options.code_bytes, options.seed)
    else:
        raise KnowledgeBaseError("--vectors needs --air-code or --code-bytes")
    base = KnowledgeBase.create(options.path, code, vectors, entries, **settings)
    return _tell(options, _facts(base) | skipped)


def _add(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    vectors, entries, _, skipped = _given(options, base.air_code)
    base.add(vectors, entries)
    return _tell(options, _facts(base) | skipped)


def _facts(base: KnowledgeBase) -> dict[str, Any]:
    manifest = base.manifest
    return {
        "name": base.name,
        "entries": len(base),
        "id": base.id,
        "air_code": manifest.air_code,
        "code_bytes": manifest.code_bytes,
        "dim": manifest.dim,
        "generation": manifest.number,
        "shards": len(manifest.shards),
        "vectors": "kept as int8" if manifest.keep_vectors else "not kept",
        "index": str(base.spec),
        "aligned_to": manifest.aligned_to,
        "tau": base.tau,
        "threshold": manifest.threshold,
        "bytes": sum(fact.size for fact in manifest.files.values()),
    }


def _info(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    facts = _facts(base)
    listed = list(islice(base.entries, max(options.entries, 0)))
    if options.json:
        facts["listed"] = [{key: value for key, value in asdict(e).items() if key != "thumbnail"} for e in listed]
    _tell(options, facts)
    if listed and not options.json:
        _table(("name", "label", "source", "licence"), [(e.name, e.label, e.source, e.licence) for e in listed])
    return 0


def _search(options: argparse.Namespace) -> int:
    bases = [KnowledgeBase.open(path) for path in (options.path, *options.more)]
    code = bases[0].air_code
    if options.image:
        vectors = embedded(options.bundle, options.image, code)
    elif options.text:
        vectors = embedded_text(options.bundle, options.text, code)
    elif options.code:
        try:
            received = np.frombuffer(bytes.fromhex(options.code), np.uint8)
        except ValueError:
            raise KnowledgeBaseError(f"{options.code!r} is not an air code in hex") from None
        vectors = code.decode(received[None])
    else:
        vectors = np.asarray(_vectors(options.vectors), np.float32)
    found = joint_search(bases, vectors, options.k)
    for row in found:
        if options.json:
            print(json.dumps([asdict(hit) for hit in row]))
        else:
            told = [(f"{hit.score:.3f}", hit.label, hit.name, hit.base) for hit in row]
            _table(("score", "label", "name", "base"), told)
    return 0


def _remove(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    removed = base.remove(map(safe_text, options.names) if options.names else base.named(safe_text(options.label)))
    return _tell(options, {"removed": removed, "entries": len(base)})


def _merge(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    merged = base.merge(KnowledgeBase.open(options.other))
    return _tell(options, {"added": merged.added, "duplicates": merged.duplicates, "entries": len(base)})


def _compact(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    base.compact()
    return _tell(options, _facts(base))


def _verify(options: argparse.Namespace) -> int:
    found = verify(options.path, options.repair)
    state = f"generation {found.generation} is undamaged" if found.generation else "damaged"
    show(options, asdict(found), *found.faults, *found.mended, state)
    return 0 if found.generation else 2


def _tell(options: argparse.Namespace, facts: dict[str, Any]) -> int:
    if options.json:
        print(json.dumps(facts))
        return 0
    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), Text(f"{value:,}" if isinstance(value, int) else str(value)))
    Console(width=200).print(table)
    return 0


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, header_style="bold")
    for name in names:
        table.add_column(name)
    for row in rows:
        # Text, since rich would take brackets in names for markup.
        table.add_row(*map(Text, row))
    Console(width=200).print(table)


if __name__ == "__main__":
    sys.exit(main())
