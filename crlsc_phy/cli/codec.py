"""``crlsc-codec``: the codec as a service, and what asks it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.cli import services
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import ServiceError
from crlsc_phy.files import placed
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.images import load_image, save_png
from crlsc_phy.net.codec.wire import DEFAULT_ADDRESS

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-codec", description="Encode and decode images in a service over ZMQ.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    serve = verbs.add_parser("serve", help="encode and decode for other programs, until interrupted")
    serve.description = "Encode and decode for other programs over ZMQ, until interrupted."
    serve.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    serve.add_argument("--address", default=DEFAULT_ADDRESS, help="where requests come; port * takes any (%(default)s)")
    serve.add_argument("--pull", metavar="ADDRESS", help="where jobs come that nobody waits for")
    serve.add_argument("--push", metavar="ADDRESS", help="where their results leave")
    serve.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads (%(default)s)")
    serve.add_argument("--queue", type=int, default=64, help="most requests that may wait (%(default)s)")
    serve.add_argument("--timeout", type=float, default=5.0, metavar="S", help="longest wait in seconds (%(default)s)")
    serve.add_argument("--private", nargs="+", default=[], metavar="FOLDER", help="knowledge bases of your own")
    serve.add_argument("--runtime", choices=("onnx", "torch"), default="onnx", help="(%(default)s)")
    serve.add_argument("--keys", type=Path, metavar="FOLDER", help="let only clients with a key in; see the verb keys")
    serve.add_argument("--without-keys", action="store_true", help="let other machines in without a key")
    serve.set_defaults(run=_serve)

    encode = verbs.add_parser("encode", help="have an image encoded to a file with a frame")
    encode.add_argument("image", type=Path, metavar="IMAGE")
    encode.add_argument("frame", type=Path, metavar="FRAME", help="file to write")
    encode.add_argument("--levels", type=int, help="rate of the detail layer (the highest)")
    encode.add_argument("--mode", choices=("digital", "analog"), default="digital", help="(%(default)s)")
    encode.set_defaults(run=_encode)

    decode = verbs.add_parser("decode", help="have a file with a frame decoded to a PNG")
    decode.add_argument("frame", type=Path, metavar="FRAME")
    decode.add_argument("image", type=Path, metavar="IMAGE", help="PNG to write")
    decode.set_defaults(run=_decode)

    stats = verbs.add_parser("stats", help="print the counters of a service")
    stats.set_defaults(run=_stats)

    keys = services.add_keys(verbs, "a service and a client")
    for verb in (encode, decode, stats):
        verb.add_argument("--address", default=DEFAULT_ADDRESS, help="of the service (%(default)s)")
        verb.add_argument("--timeout", type=float, default=5.0, metavar="S", help="how long to wait (%(default)s)")
        verb.add_argument("--keys", type=Path, metavar="FOLDER", help="holds server.key and client.key_secret")
    for verb in (serve, encode, decode, stats, keys):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _serve(options: argparse.Namespace) -> int:
    net = services.net("codec.server")
    from crlsc_phy.codec import SemanticCodec

    services.show_log()
    codec = SemanticCodec.load(options.bundle, options.runtime, private=options.private)
    # The first call of each network is slow; let it be this one.
    codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8)))
    server = net.CodecServer(
        codec,
        options.address,
        pull=options.pull,
        push=options.push,
        workers=options.workers,
        queue_size=options.queue,
        timeout_s=options.timeout,
        keys=options.keys,
        without_keys=options.without_keys,
    )
    return services.run_service(server, server.addresses, options.json, "serving")


def _encode(options: argparse.Namespace) -> int:
    image = load_image(options.image)
    with _client(options) as client:
        frame = client.encode(image, levels=options.levels, mode=options.mode)
    data = frame.to_bytes()
    _write(options.frame, data)
    height, width = image.shape[:2]
    told = {"bytes": len(data), "height": height, "width": width, "semantic": (frame.semantic or b"").hex()}
    _print(options, told, f"{options.frame}: {len(data):,} bytes for {width}x{height} pixels")
    return 0


def _decode(options: argparse.Namespace) -> int:
    try:
        frame = SemanticFrame.from_bytes(options.frame.read_bytes())
    except OSError as error:
        raise ServiceError(f"{options.frame}: cannot be read ({error.strerror})") from None
    with _client(options) as client:
        image, meta = client.decode(frame)
    try:
        save_png(options.image, image)
    except OSError as error:
        raise ServiceError(f"{options.image}: cannot be written ({error.strerror})") from None
    _print(options, meta, f"{options.image}: {meta['label']}, {meta['confidence']:.0%} of the vote")
    if not options.json:
        for near in meta["neighbours"]:
            print(f"  {near['score']:.3f}  {near['label']}  {near['name']} ({near['base']})")
    return 0


def _stats(options: argparse.Namespace) -> int:
    with _client(options) as client:
        stats = client.stats()
    _print(options, stats, "\n".join(f"{name:<12} {_words(value)}" for name, value in stats.items()))
    return 0


def _client(options: argparse.Namespace) -> Any:
    return services.net("codec.client").CodecClient(options.address, options.timeout, options.keys)


def _write(path: Path, data: bytes) -> None:
    try:
        with placed(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be written ({error.strerror})") from None


def _print(options: argparse.Namespace, result: dict[str, Any], words: str) -> None:
    print(json.dumps(result) if options.json else words)


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {_words(part)}" for name, part in value.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
