"""`relay probe` on the command line: what is asked for, as a plan."""

from __future__ import annotations

import ipaddress
import json
import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from relay.probe.ends import Sip, WebRtc
from relay.probe.probe_report import show
from relay.probe.probing import Plan, probe
from relay.probe.quality import Limits

FAILED, MISTAKEN = 1, 2
CODECS = ("PCMU", "PCMA", "OPUS")
EPILOG = (
    "Examples, a voice client calls another one; a voice client calls a trunk's phone; a "
    "trunk's phone calls somebody who answers by himself:\n\n"
    "relay probe bob --webrtc wss://ie1.example:8443 --token @alice.jwt --callee-token @bob.jwt\n\n"
    "relay probe +35315550199 --webrtc wss://ie1.example:8443 --token @alice.jwt "
    "--callee-sip 10.0.0.9:5090\n\n"
    "relay probe +35315550199 --sip 10.0.0.1:5060 --bind 10.0.0.9:5080 --json --min-mos 3.8\n\n"
    "Exit codes:  0 everything is within its limit  ·  1 it is not, or there was no call  ·  "
    "2 a mistake in the input"
)
_LIMITS = "Limits"
_CALLER = "Who calls"
_CALLEE = "Who answers"


def command(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="A number or an identity.")],
    webrtc: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A voice client calls, at the region's wss: URL.",
            rich_help_panel=_CALLER,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RELAY_PROBE_TOKEN",
            show_envvar=True,
            help="Its access token, or @FILE that holds it.",
            rich_help_panel=_CALLER,
        ),
    ] = None,
    sip: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A SIP phone calls, at this address of the region.",
            rich_help_panel=_CALLER,
        ),
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The phone's own address, which a trunk allows.",
            rich_help_panel=_CALLER,
        ),
    ] = None,
    transport: Annotated[
        str, typer.Option(help="Of SIP phones: udp or tcp.", rich_help_panel=_CALLER)
    ] = "udp",
    user: Annotated[
        str, typer.Option(help="The phone's number.", rich_help_panel=_CALLER)
    ] = "+35315550100",
    codec: Annotated[
        str, typer.Option(help="PCMU, PCMA or OPUS.", rich_help_panel=_CALLER)
    ] = "PCMU",
    callee_token: Annotated[
        str | None,
        typer.Option(
            envvar="RELAY_PROBE_CALLEE_TOKEN",
            show_envvar=True,
            help="A voice client with this token (or @FILE) answers.",
            rich_help_panel=_CALLEE,
        ),
    ] = None,
    callee_webrtc: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where that client registers, if not where the caller does.",
            rich_help_panel=_CALLEE,
        ),
    ] = None,
    callee_sip: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A SIP phone at this address answers: a trunk's origination.",
            rich_help_panel=_CALLEE,
        ),
    ] = None,
    callee_codec: Annotated[
        str | None,
        typer.Option(help="As --codec, which it is by default.", rich_help_panel=_CALLEE),
    ] = None,
    seconds: Annotated[int, typer.Option(min=2, max=600, help="How long both speak.")] = 8,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=900, help="Seconds for all of it.")
    ] = 60.0,
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Authorities that wss: certificates are checked with."),
    ] = None,
    max_setup: Annotated[
        float,
        typer.Option(metavar="MS", help="INVITE to audio both ways.", rich_help_panel=_LIMITS),
    ] = 3000.0,
    max_loss: Annotated[
        float, typer.Option(metavar="PERCENT", help="Packets lost.", rich_help_panel=_LIMITS)
    ] = 1.0,
    max_jitter: Annotated[
        float, typer.Option(metavar="MS", help="RFC 3550 jitter.", rich_help_panel=_LIMITS)
    ] = 30.0,
    max_delay: Annotated[
        float, typer.Option(metavar="MS", help="One way.", rich_help_panel=_LIMITS)
    ] = 150.0,
    min_mos: Annotated[
        float, typer.Option(metavar="MOS", help="ITU-T G.107, 1 to 4.4.", rich_help_panel=_LIMITS)
    ] = 4.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Place a synthetic call through a running region and measure it.

    Both ends say a tone once a second. Measured in each direction: loss, jitter,
    one-way delay and mean opinion score; and how long until it rang, and until
    audio flowed. Without a callee of ours, only what the caller hears is measured.

    A voice client needs the extra \\[client], a SIP phone \\[probe].
    """
    if (webrtc is None) == (sip is None):
        raise typer.BadParameter("one of --webrtc and --sip says who calls")
    if callee_token is not None and callee_sip is not None:
        raise typer.BadParameter("either --callee-token or --callee-sip answers, not both")
    trust = _trust(ca)
    callee_codec = callee_codec or codec
    caller: WebRtc | Sip
    callee: WebRtc | Sip | None = None
    if webrtc is not None:
        caller = WebRtc(_url(webrtc), _token(token, "--token"), _codec(codec), trust)
    else:
        if bind is None:
            raise typer.BadParameter("a SIP phone needs --bind, the address that a trunk allows")
        host, port = _address(bind, "--bind")
        relay = "{}:{}".format(*_written(*_address(sip or "", "--sip")))
        caller = Sip(host, port, relay, transport, user, codec=_codec(codec, sip=True))
    if callee_token is not None:
        url = callee_webrtc or webrtc
        if url is None:
            raise typer.BadParameter("--callee-webrtc: where does the callee register?")
        held = _token(callee_token, "--callee-token")
        callee = WebRtc(_url(url), held, _codec(callee_codec), trust)
    elif callee_sip is not None:
        host, port = _address(callee_sip, "--callee-sip")
        wanted = _codec(callee_codec, sip=True)
        callee = Sip(host, port, transport=transport, user=number, codec=wanted, media_port=4200)
    limits = Limits(max_setup, max_loss, max_jitter, max_delay, min_mos)
    raise typer.Exit(_run(Plan(number, caller, callee, seconds, timeout_s), limits, as_json))


def _run(plan: Plan, limits: Limits, as_json: bool) -> int:
    try:
        report = probe(plan)
    except ImportError as error:
        extra = "probe" if error.name in ("pjsua2", "numpy") else "client"
        Console(stderr=True, soft_wrap=True).print(
            f"The probe needs a package that is missing ({error.name}): "
            f"pip install 'regional-voice-relay\\[{extra}]'"
        )
        return FAILED
    if as_json:
        typer.echo(json.dumps(report.as_dict(limits), ensure_ascii=False))
    else:
        show(Console(highlight=False), report, limits)
    return FAILED if report.findings(limits) else 0


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise typer.BadParameter(f"{escape(text)} is not of the form wss://host:port")
    return text


def _token(value: str | None, option: str) -> str:
    """The token itself, or that of a file."""
    if not value:
        raise typer.BadParameter(f"{option}: a voice client needs an access token")
    if value.startswith("@"):
        try:
            value = Path(value[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{option}: {error}") from None
    if value.count(".") != 2:
        raise typer.BadParameter(f"{option}: that is no access token (`relay token` makes one)")
    return value


def _codec(name: str, sip: bool = False) -> str:
    known = CODECS[:2] if sip else CODECS
    if name.upper() not in known:
        raise typer.BadParameter(f"{name} is none of {', '.join(known)}")
    return name.upper()


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"{option}: {text!r} is not of the form HOST:PORT")
    return host, int(port)


def _written(host: str, port: int) -> tuple[str, int]:
    try:
        return (f"[{host}]" if ipaddress.ip_address(host).version == 6 else host), port
    except ValueError:
        return host, port


def _trust(path: Path | None) -> ssl.SSLContext | None:
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise typer.BadParameter(f"--ca: {error}") from None
