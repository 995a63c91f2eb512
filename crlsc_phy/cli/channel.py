"""``crlsc-channel``: channel emulator between radios that exchange samples over ZMQ."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from crlsc_phy.channel import MODELS, ChannelSettings
from crlsc_phy.cli import services
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import ServiceError
from crlsc_phy.net.hosts import DEFAULT_CONTROL
from crlsc_phy.options import read_yaml

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 (wrong input) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crlsc-channel",
        description="Pass streams of samples between radios, over channels whose phase never breaks.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    run = verbs.add_parser("run", help="run the channels of a YAML file, or one channel from a sender to a receiver")
    run.description = "Run channels until interrupted. Streams are FORM:tcp://HOST:PORT, see the guide."
    add = run.add_argument
    add("config", nargs="?", type=Path, metavar="CONFIG", help="YAML file with radios and links")
    add("--tx", metavar="STREAM", help="without a file: where samples come from: pull, sub, req or srsran-tx")
    add("--rx", metavar="STREAM", help="without a file: where samples go: push, pub, rep or srsran-rx")
    text = f"with --tx: channel model, one of {', '.join(MODELS)} (awgn)"
    add("--model", choices=tuple(MODELS), metavar="MODEL", help=text)
    text = f"with --tx: a setting of the channel, one of {', '.join(each.name for each in fields(ChannelSettings))}"
    add("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help=text)
    text = "accept only peers with a CURVE key in this folder; see the verb keys"
    add("--keys", default=None, metavar="FOLDER", help=text)
    add("--without-keys", action="store_true", default=None, help="accept other machines without a key")
    add("--control", default=None, metavar="ADDRESS", help=f"address of the control socket ({DEFAULT_CONTROL})")
    run.set_defaults(run=_run)

    ask = verbs.add_parser("ask", help="query or change a running emulator")
    ask.description = (
        "Send a question to the control socket: get, set, ramp, record, stats or stop, with arguments NAME=VALUE. "
        "Examples: set link='a>b' snr_db=5; ramp setting=snr_db to=-5 seconds=10."
    )
    add = ask.add_argument
    add("question", metavar="QUESTION")
    add("values", nargs="*", metavar="NAME=VALUE")
    add("--control", default=DEFAULT_CONTROL, metavar="ADDRESS", help="address of the socket (%(default)s)")
    add("--keys", default="", metavar="FOLDER", help="folder with server.key and client.key_secret")
    add("--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for the answer (%(default)s)")
    ask.set_defaults(run=_ask)

    keys = services.add_keys(verbs, "an emulator and a peer")

    models = verbs.add_parser("models", help="list the channel models and their sources")
    models.set_defaults(run=_models)
    for verb in (run, ask, keys, models):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    make_config, net = services.net("channel.config").EmulatorConfig, services.net("channel.server")
    services.show_log()
    given = {name: getattr(options, name) for name in ("keys", "without_keys", "control")}
    over = {name: value for name, value in given.items() if value is not None}
    if options.config:
        if options.tx or options.rx or options.model or options.settings:
            raise ServiceError("give either a file, or --tx and --rx with --model and --set")
        config = make_config.load(options.config, **over)
    elif options.tx and options.rx:
        link = {"from": "sender", "to": "receiver", "model": options.model or "awgn"} | _values(options.settings)
        radios = {"sender": {"tx": options.tx}, "receiver": {"rx": options.rx}}
        config = make_config.of({"radios": radios, "links": [link]}, **over)
    else:
        raise ServiceError("give a YAML file, or --tx and --rx")
    server = net.ChannelServer(config)
    return services.run_service(server, server.addresses(), options.json, "running")


def _ask(options: argparse.Namespace) -> int:
    question = {"do": options.question} | _values(options.values)
    answer = services.net("channel.control").ask(question, options.control, options.timeout, options.keys)
    words = yaml.safe_dump(answer, sort_keys=False).rstrip() if answer else "ok"
    print(json.dumps(answer) if options.json else words)
    return 0


def _models(options: argparse.Namespace) -> int:
    told = {name: {"source": model.source, "uses": model.uses} for name, model in MODELS.items()}
    lines = (f"{name:15} {model.source}; {', '.join(model.uses)}" for name, model in MODELS.items())
    print(json.dumps(told) if options.json else "\n".join(lines))
    return 0


def _values(pairs: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` arguments; the values are YAML."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ServiceError(f"{pair!r}: write NAME=VALUE")
        values[name] = read_yaml(text, repr(pair), ServiceError)
    return values


if __name__ == "__main__":
    sys.exit(main())
