"""The `relay` command. Exit codes: 0 done, 1 failed while running, 2 a mistake in the input."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay import __version__
from relay.config import EXAMPLE, Account, Config, Route, Trunk, example, load, notes
from relay.config.trunk import WEB_TRANSPORTS
from relay.control.demo_clients import add_demo_clients, links
from relay.errors import ConfigError
from relay.probe import command as probe_command

MISTAKEN = 2
# Calls that the embedded example takes as it is.
TRY = """Try it with SIPp in two other terminals, first the carrier, then the PBX:
  sipp -sn uas -i 127.0.0.3 -p 5070
  sipp -sn uac -i 127.0.0.2 -p 5080 -s +35315550199 -m 1 -d 3000 127.0.0.1:5060"""

app = typer.Typer(
    name="relay",
    help="A SIP/RTP relay for voice that stays in one legal region.",
    epilog="Examples:  relay check --config region.toml  ·  "
    "relay serve --config region.toml  ·  relay demo\n\n"
    "Exit codes:  0 done  ·  1 failed while running  ·  2 a mistake in the input",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The region's configuration (TOML)."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A SIP/RTP relay for voice that stays in one legal region."""


@app.command(
    epilog="Examples:  relay check --config region.toml  ·  relay check -c region.toml --json"
)
def check(
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Explain every mistake in a configuration, or sum it up.

    Without --config the embedded example is checked.

    Exit code 0: it can be served; 2: it has mistakes.
    """
    name = str(config) if config is not None else EXAMPLE
    try:
        loaded = _load(config)
    except ConfigError as error:
        if as_json:
            _print_json(file=error.file, ok=False, mistakes=error.mistakes)
        else:
            _print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    if as_json:
        _print_json(file=name, ok=True, mistakes=[], notes=_notes(loaded), **_summary(loaded))
    else:
        _print_summary(name, loaded)


@app.command(
    epilog="Examples:  relay serve  ·  relay serve --config region.toml  ·  "
    "relay serve --demo-clients"
)
def serve(
    config: ConfigOption = None,
    demo_clients: Annotated[
        bool,
        typer.Option(
            "--demo-clients", help="Two browser phones, with a link for each (no --config)."
        ),
    ] = False,
) -> None:
    """Serve a region until Ctrl-C.

    Without --config: a laptop region on 127.0.0.1:5060 with the settings of
    relay.example.toml. Ctrl-C or SIGTERM refuses new calls and gives running ones
    sip.drain_s seconds to end, then hangs up; a second one does not wait.

    Exit code 0: stopped; 1: could not start; 2: mistakes that `relay check` explains.
    """
    if demo_clients and config is not None:
        _stderr().print("--demo-clients are of the laptop region: leave --config away")
        raise typer.Exit(MISTAKEN)
    try:
        loaded = example(add_demo_clients) if demo_clients else _load(config)
    except ConfigError as error:
        _print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    # Imported here: `check` and --help work without the compiled engine.
    from relay.server import run

    _print_where_to_call(loaded)
    if config is None:
        _stderr().print(TRY, markup=False)
    if demo_clients:
        _print_links(links(loaded))
    raise typer.Exit(run(loaded))


@app.command(
    epilog="Examples:  relay token -c region.toml --account app --identity alice  ·  "
    "relay token -c region.toml --account app --identity bob --ttl 15m --no-out  ·  "
    "relay token --key app.key.pem --kid k2 --region ie1 --account app --identity alice"
)
def token(
    account: Annotated[str, typer.Option("--account", help="Whose client it is.")],
    identity: Annotated[str, typer.Option("--identity", help="Who the client is.")],
    ttl: Annotated[str, typer.Option("--ttl", help="How long: 90s, 15m, 1h … up to 24h.")] = "1h",
    out: Annotated[bool, typer.Option("--out/--no-out", help="It may call.")] = True,
    called: Annotated[bool, typer.Option("--in/--no-in", help="It may be called.")] = True,
    number: Annotated[
        str | None, typer.Option("--number", help="Who it is to a trunk, as +35315550111.")
    ] = None,
    config: ConfigOption = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FILE", help="A private key (PEM), or an HS256 secret."),
    ] = None,
    kid: Annotated[
        str | None, typer.Option("--kid", help="The key's id; the account's first by default.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="For which region, without --config.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with the token and its claims.")
    ] = False,
) -> None:
    """Make an access token for a voice client, on standard output.

    With --config the account's own key signs; ES256 needs its private key (--key) beside it.
    With --key alone nothing else is read.

    Exit code 0: done; 2: a mistake, which it explains.
    """
    from relay.access_token import Wish, by_config, by_file

    try:
        if key is not None and config is None:
            signer = by_file(key, account, kid, region)
        else:
            name = str(config) if config is not None else EXAMPLE
            signer = by_config(_load(config), account, name, kid, key)
        claims = Wish(identity, ttl, out, called, number).claims(signer, time.time())
    except ConfigError as error:
        _print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    made = signer.token(claims)
    if as_json:
        _print_json(token=made, claims=claims)
    else:
        typer.echo(made)


@app.command(epilog="Examples:  relay demo  ·  relay demo --secure")
def demo(
    secure: Annotated[
        bool, typer.Option("--secure", help="The PBX speaks TLS and SRTP, the carrier neither.")
    ] = False,
) -> None:
    """Let two real SIP phones call each other through a region, and check it.

    What each side heard is compared with what the other said. Needs the extra:
    pip install 'regional-voice-relay\\[probe]'.
    """
    try:
        from relay.probe.demo import run as run_demo
    except ImportError as error:
        _stderr().print(
            f"The demo needs a package that is missing ({error.name}): "
            "pip install 'regional-voice-relay\\[probe]'"
        )
        raise typer.Exit(1) from None
    raise typer.Exit(run_demo(secure=secure))


app.command("probe", epilog=probe_command.EPILOG)(probe_command.command)


def _load(path: Path | None) -> Config:
    return example() if path is None else load(path)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _print_json(**fields: Any) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False))


def _print_mistakes(error: ConfigError) -> None:
    count = len(error.mistakes)
    console = _stderr()
    console.print(f"[bold red]{escape(error.file)}: {count} mistake{'s'[: count > 1]}[/]")
    for mistake in error.mistakes:
        console.print(f"  [red]✗[/] {escape(mistake)}")


def _print_where_to_call(config: Config) -> None:
    """For a person who has just started it; the log's lines follow."""
    console = _stderr()
    for listen in config.sip.listen:
        if listen.transport in WEB_TRANSPORTS:
            continue
        ipv6 = ":" in listen.host
        host = (config.sip.advertise_ipv6 if ipv6 else config.sip.advertise) or listen.host
        host = f"[{host}]" if ":" in host else host
        uri = f"sip:+15550100@{host}:{listen.port};transport={listen.transport}"
        console.print(f"Send a call to [bold]{escape(uri)}[/]")
    for trunk in config.trunk:
        if trunk.known_by:
            known_by = escape(", ".join(trunk.known_by))
            console.print(f"  as trunk [bold]{escape(trunk.name)}[/] from {known_by}")
            _print_routes(console, config, trunk.name)
    for account in config.account:
        at = escape(", ".join(config.client_urls))
        console.print(f"Clients of [bold]{escape(account.name)}[/] connect to {at} with a token")
        _print_routes(console, config, account.name)


def _print_routes(console: Console, config: Config, caller: str) -> None:
    for route in config.route:
        if route.from_ == caller:
            console.print(f"    {escape(_leads(config, route))}")


def _print_links(found: dict[str, str]) -> None:
    console = _stderr()
    console.print("Open each link in a window of its own; they can call each other by name:")
    for identity, link in found.items():
        console.print(f"  [bold]{identity}[/]  {escape(link)}")


def _leads(config: Config, route: Route) -> str:
    """Where a route's calls arrive; more than one address when they are divided."""
    if route.to in [account.name for account in config.account]:
        return f"{route.number} goes to {route.identity or 'who was called'} of {route.to}"
    targets = next(trunk.origination for trunk in config.trunk if trunk.name == route.to)
    where = " or ".join(entry.uri for entry in targets if entry.enabled)
    return f"{route.number} goes to {route.to} at {where}"


def _summary(config: Config) -> dict[str, Any]:
    return {
        "region": config.region.id,
        "jurisdiction": config.region.jurisdiction,
        "listen": [str(listen) for listen in config.sip.listen],
        "media": {
            "address": config.media.advertise or config.media.address,
            "ports": list(config.media.ports),
            "calls_that_fit": config.media.calls_that_fit,
        },
        "concurrent_calls": config.concurrent_calls,
        "http": config.http.listen if config.http else None,
        "trunks": [_trunk_summary(trunk) for trunk in config.trunk],
        "accounts": [_account_summary(account) for account in config.account],
        "routes": [
            {"from": route.from_, "number": route.number, "to": route.to} for route in config.route
        ],
    }


def _trunk_summary(trunk: Trunk) -> dict[str, Any]:
    return {
        "name": trunk.name,
        "allow": [str(network) for network in trunk.allow],
        "known_by": list(trunk.known_by),
        "origination": [entry.uri for entry in trunk.origination if entry.enabled],
        "recording": trunk.recording,
        "calls_per_second": trunk.calls_per_second,
        "concurrent_calls": trunk.concurrent_calls,
    }


def _account_summary(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "keys": [f"{key.id} ({key.algorithm})" for key in account.keys],
        "clients": account.clients,
        "contacts": account.contacts,
        "recording": account.recording,
        "calls_per_second": account.calls_per_second,
        "concurrent_calls": account.concurrent_calls,
    }


def _notes(config: Config) -> list[str]:
    """Of the configuration, and of this build where that matters to it."""
    found = notes(config)
    named = [account.name for account in config.account if account.transcode]
    if named and not _transcodes():
        found.append(
            f"account {', '.join(named)}: this build has no libopus, so a call between Opus and "
            "G.711 is refused with 488"
        )
    return found


def _transcodes() -> bool:
    """Imported here: without the compiled engine there is nothing to say."""
    try:
        from relay.media.engine import TRANSCODES
    except ImportError:
        return True
    return TRANSCODES


def _print_summary(name: str, config: Config) -> None:
    console = Console(highlight=False)
    summary = _summary(config)
    media = summary["media"]
    first, last = media["ports"]
    console.print(f"[bold green]{escape(name)}: no mistakes[/]")
    console.print(f"region {config.region.id} ({escape(config.region.jurisdiction)})")
    console.print(f"listens on {escape(', '.join(summary['listen']))}")
    console.print(
        f"media {media['address']} ports {first}-{last}: {media['calls_that_fit']} calls fit, "
        f"the trunks allow {config.concurrent_calls}"
    )
    if summary["http"]:
        console.print(f"tells http://{summary['http']}/health how it is")
    console.print(_trunk_table(summary["trunks"]))
    if summary["accounts"]:
        console.print(_account_table(summary["accounts"]))
    routes = Table("from", "number", "to", title="Routes", title_justify="left")
    for route in summary["routes"]:
        routes.add_row(*(escape(text) for text in route.values()))
    console.print(routes)
    for note in _notes(config):
        console.print(f"[yellow]note[/] {escape(note)}")


def _trunk_table(trunks: list[dict[str, Any]]) -> Table:
    table = Table(title="Trunks", title_justify="left")
    for heading in ("trunk", "known by", "origination", "recording", "calls/s", "calls at once"):
        table.add_column(heading, overflow="fold")
    for trunk in trunks:
        table.add_row(
            trunk["name"],
            escape("\n".join(trunk["known_by"])),
            escape("\n".join(trunk["origination"])),
            trunk["recording"],
            f"{trunk['calls_per_second']:g}",
            str(trunk["concurrent_calls"]),
        )
    return table


def _account_table(accounts: list[dict[str, Any]]) -> Table:
    table = Table(title="Accounts of voice clients", title_justify="left")
    for heading in (
        *("account", "keys", "devices", "of one client"),
        *("recording", "calls/s", "calls at once"),
    ):
        table.add_column(heading, overflow="fold")
    for account in accounts:
        table.add_row(
            account["name"],
            escape("\n".join(account["keys"])),
            str(account["clients"]),
            str(account["contacts"]),
            account["recording"],
            f"{account['calls_per_second']:g}",
            str(account["concurrent_calls"]),
        )
    return table
