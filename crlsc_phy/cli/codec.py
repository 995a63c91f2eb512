"""``crlsc-codec``: the codec as a service, and its clients."""

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
    """Run the command; return its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-codec", description="Encode and decode images in a service over ZMQ.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    serve = verbs.add_parser("serve", help="encode and decode for other programs, until interrupted")
    serve.description = "Encode and decode for other programs over ZMQ, until interrupted."
    add = serve.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    add("--address", default=DEFAULT_ADDRESS, help="address for requests; port * takes any free port (%(default)s)")
    add("--pull", metavar="ADDRESS", help="address for jobs whose results leave at --push")
    add("--push", metavar="ADDRESS", help="address for the results of the jobs of --pull")
    add("--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads that encode and decode (%(default)s)")
    add("--queue", type=int, default=64, help="most requests that may wait for a worker (%(default)s)")
    add("--timeout", type=float, default=5.0, metavar="S", help="longest wait of a request for a worker (%(default)s)")
    text = "private knowledge bases to search beside the bundle's"
    add("--private", nargs="+", default=[], metavar="FOLDER", help=text)
    add("--runtime", choices=("onnx", "torch"), default="onnx", help="library for the networks (%(default)s)")
    add("--keys", type=Path, metavar="FOLDER", help="let only clients with a key connect; see the verb keys")
    add("--without-keys", action="store_true", help="let other machines connect without a key")
    serve.set_defaults(run=_serve)

    encode = verbs.add_parser("encode", help="encode an image to a frame file")
    encode.add_argument("image", type=Path, metavar="IMAGE")
    encode.add_argument("frame", type=Path, metavar="FRAME", help="frame file to write")
    encode.add_argument("--levels", type=int, help="rate of the detail layer (the highest)")
    encode.add_argument("--mode", choices=("digital", "analog"), default="digital", help="detail layer (%(default)s)")
    encode.set_defaults(run=_encode)

    decode = verbs.add_parser("decode", help="decode a frame file to a PNG file")
    decode.add_argument("frame", type=Path, metavar="FRAME")
    decode.add_argument("image", type=Path, metavar="IMAGE", help="PNG file to write")
    decode.set_defaults(run=_decode)

    stats = verbs.add_parser("stats", help="print the counters of a service")
    stats.set_defaults(run=_stats)

    keys = services.add_keys(verbs, "a service and a client")
    for verb in (encode, decode, stats):
        add = verb.add_argument
        add("--address", default=DEFAULT_ADDRESS, help="address of the service (%(default)s)")
        add("--timeout", type=float, default=5.0, metavar="S", help="longest wait for an answer (%(default)s)")
        add("--keys", type=Path, metavar="FOLDER", help="folder with server.key and client.key_secret")
    for verb in (serve, encode, decode, stats, keys):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _serve(options: argparse.Namespace) -> int:
    net = services.net("codec.server")
    from crlsc_phy.codec import SemanticCodec

    services.show_log()
    codec = SemanticCodec.load(options.bundle, options.runtime, private=options.private)
    # The first call of each network is slow, so it is made before the first request.
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
    _print(options, meta, f"{options.image}: {meta['label'] or 'no label'}, {meta['confidence']:.0%} of the vote")
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
