"""``crlsc-train data``: fetch data sets, list them, and find pictures that two splits share."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

__all__ = ["add_data_options", "run_data"]

PARTS = ("default", "animals", "faces")
SHOWN = 20


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb, apart from ``--data``."""
    parser.add_argument(
        "part", nargs="*", type=_part, metavar="NAME", help=f"sets to fetch: {', '.join(PARTS)}, all (default: default)"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the sets, their licences and whether they are fetched")
    other.add_argument(
        "--check",
        nargs=2,
        metavar="SPEC",
        help="find equal and near-duplicate pictures in two sets; exits with 2 if there are any",
    )
    parser.add_argument("--json", action="store_true", help="print the list or the pairs as JSON")


def _part(name: str) -> str:
    if name not in (*PARTS, "all"):
        raise argparse.ArgumentTypeError(f"{name!r} is unknown; choose {', '.join(PARTS)} or all")
    return name


def run_data(options: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    if options.list:
        return _list(options)
    if options.check:
        return _check(options)
    from crlsc_phy.data import assemble

    parts = options.part or ["default"]
    assemble(options.data, PARTS if "all" in parts else parts)
    return 0


def _list(options: argparse.Namespace) -> int:
    from crlsc_phy.data import read_table
    from crlsc_phy.data.catalogue import arrays_path

    rows = [
        {
            "set": row["set"],
            "pictures": int(row["pictures"]),
            "licence": row["licence"],
            "for shipped weights": row["trains"],
            "is there": "yes" if arrays_path(options.data, row["set"]).exists() else f"crlsc-train data {row['part']}",
        }
        for row in read_table("sets.csv")
    ]
    if options.json:
        print(json.dumps(rows))
        return 0
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _check(options: argparse.Namespace) -> int:
    from crlsc_phy.data import open_images
    from crlsc_phy.data.duplicates import check_splits

    first, second = (open_images(spec, options.data) for spec in options.check)
    pairs = check_splits(first, second)
    named = [{**asdict(pair), "first": first.keys[pair.first], "second": second.keys[pair.second]} for pair in pairs]
    if options.json:
        print(json.dumps(named))
    else:
        for pair in named[:SHOWN]:
            print(f"{pair['first']}  {pair['second']}  {pair['bits']} bits, {pair['levels']} levels")
        count = len({pair.first for pair in pairs})
        print(
            f"{count} of {len(first)} pictures of {first.name} have an equal or near-duplicate "
            f"among the {len(second)} of {second.name}"
        )
    return 2 if pairs else 0
