"""One SIP endpoint (pjsua2) as a process: JSON lines in on stdin, JSON lines out on stdout.

pjsua2 carries four calls a process and keeps global state, so every endpoint is a process
of its own: `python -m relay.probe.endpoint --bind 127.0.0.2 --port 5080 --user pbx`.
`relay.probe.remote.Endpoint` is the other end of the pipe.

Commands, each `{"do": name, …}`: `call` (uri), `answer`, `dtmf` (digits), `hangup`,
`hold`, `resume`, `rekey`, `transfer` (uri), `play` (the WAV again), `figures`, `quit`. Events, each
`{"event": name, "at": seconds since the epoch, …}`: `ready`, `incoming`, `state` (calling, early,
confirmed, disconnected with the status), `media`, `played` (the WAV came to its end), `dtmf`
(key), `transferred` (status, final), `figures`, `error`, `bye`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

import pjsua2 as pj

from relay.probe.station import KINDS, SRTP, Station, emit


class Commands:
    """Reads complete lines from stdin without ever waiting for one."""

    def __init__(self) -> None:
        self.rest = b""
        self.open = True

    def read(self) -> list[dict[str, Any]]:
        if not select.select([0], [], [], 0)[0]:
            return []
        data = os.read(0, 65536)
        self.open = bool(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of one endpoint."""
    parser = argparse.ArgumentParser(prog="relay.probe.endpoint", description=__doc__)
    parser.add_argument("--bind", required=True, help="address for SIP and media")
    parser.add_argument("--port", type=int, required=True, help="SIP port")
    parser.add_argument("--media-port", type=int, default=4000, help="first RTP port")
    parser.add_argument("--user", default="probe", help="user part of the own address")
    parser.add_argument("--username", help="for digest challenges, in any realm")
    parser.add_argument("--password", default="", help="for digest challenges")
    parser.add_argument("--transport", choices=tuple(KINDS), default="udp")
    parser.add_argument("--certificate", help="of TLS, with --key and --ca (PEM files)")
    parser.add_argument("--key")
    parser.add_argument("--ca")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--srtp", choices=tuple(SRTP), default="off")
    parser.add_argument("--srtp-suites", default="", help="offered or accepted, with commas")
    parser.add_argument("--play", help="WAV (16 bit, mono) to play once media is up")
    parser.add_argument("--record", help="WAV to write what is heard to")
    parser.add_argument("--ring-s", type=float, default=0.0, help="-1: only on command")
    parser.add_argument("--refuse", type=int, help="status to refuse every call with")
    parser.add_argument("--log", help="file for pjsip's own log")
    return parser.parse_args(argv)


def main() -> int:
    station = Station(arguments())
    emit("ready")
    commands = Commands()
    actions: dict[str, Callable[..., None]] = {
        name.removeprefix("do_"): getattr(station, name)
        for name in dir(Station)
        if name.startswith("do_")
    }
    while station.running and commands.open:
        for command in commands.read():
            name = command.pop("do", "")
            try:
                actions[name](**command)
            except (pj.Error, KeyError, TypeError, ValueError) as error:
                text = error.info() if isinstance(error, pj.Error) else repr(error)
                emit("error", text=text, command=name)
        station.poll()
    station.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
