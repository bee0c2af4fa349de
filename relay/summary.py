"""What a configuration comes to: who may call whom, in a few lines, in tables, or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.archive import Archive
from relay.config import Account, Config, Route, Trunk, notes
from relay.config.trunk import WEB_TRANSPORTS
from relay.errors import KeyMissing


def print_where_to_call(console: Console, config: Config) -> None:
    """For a person who has just started it; the log's lines follow."""
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


def _leads(config: Config, route: Route) -> str:
    """Where a route's calls arrive; more than one address when they are divided."""
    if route.to in [account.name for account in config.account]:
        return f"{route.number} goes to {route.identity or 'who was called'} of {route.to}"
    targets = next(trunk.origination for trunk in config.trunk if trunk.name == route.to)
    where = " or ".join(entry.uri for entry in targets if entry.enabled)
    return f"{route.number} goes to {route.to} at {where}"


def summary(config: Config) -> dict[str, Any]:
    """Of a configuration, what an operator asks first; as it is printed by --json.

    Raises ManifestRefused, KeyMissing.
    """
    archive = Archive(config)
    return {
        "region": config.region.id,
        "jurisdiction": config.region.jurisdiction,
        "networks": [str(network) for network in config.region.networks],
        "enforced": config.region.enforce,
        "policy": archive.policy,
        "signed_by": archive.check_manifest(),
        "listen": [str(listen) for listen in config.sip.listen],
        "media": {
            "address": config.media.advertise or config.media.address,
            "ports": list(config.media.ports),
            "calls_that_fit": config.media.calls_that_fit,
        },
        "concurrent_calls": config.concurrent_calls,
        "http": config.http.listen if config.http else None,
        "kept": {
            "recordings": config.recording.store,
            "spool": config.recording.spool,
            "database": config.database.url,
            "queue": config.database.queue,
            "audit": config.audit.directory,
            "anchors": list(config.audit.anchors),
        },
        "keys": {"directory": config.keys.directory, "problem": _keys_problem(archive)},
        "staff_keys": [key.id for key in config.access.keys],
        "trunks": [_trunk_summary(trunk) for trunk in config.trunk],
        "accounts": [_account_summary(account) for account in config.account],
        "routes": [_route_summary(route) for route in config.route],
    }


def _keys_problem(archive: Archive) -> str:
    """What is wrong with the region's keys: without them nothing is recorded."""
    try:
        archive.keys.check()
    except KeyMissing as missing:
        return str(missing)
    return ""


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


def _route_summary(route: Route) -> dict[str, Any]:
    found = {"from": route.from_, "number": route.number, "to": route.to}
    return found | ({"identity": route.identity} if route.identity else {})


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


def all_notes(config: Config) -> list[str]:
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


def print_summary(console: Console, name: str, config: Config) -> None:
    """The same in words and tables; `name` is the file's."""
    found = summary(config)
    media = found["media"]
    first, last = media["ports"]
    console.print(f"[bold green]{escape(name)}: no mistakes[/]")
    console.print(f"region {config.region.id} ({escape(config.region.jurisdiction)})")
    networks, policy = ", ".join(found["networks"]), found["policy"][:16]
    signed = f"signed by {found['signed_by']}" if found["signed_by"] else "not signed"
    console.print(f"boundary {networks}; policy {policy}, {signed}")
    if not found["enforced"]:
        console.print("[bold red]DRY RUN: region.enforce is false, so nothing is kept inside[/]")
    console.print(f"listens on {escape(', '.join(found['listen']))}")
    console.print(
        f"media {media['address']} ports {first}-{last}: {media['calls_that_fit']} calls fit, "
        f"{config.concurrent_calls} are allowed"
    )
    if found["http"]:
        console.print(f"tells http://{found['http']}/health how it is")
    _print_kept(console, found)
    console.print(_trunk_table(found["trunks"]))
    if found["accounts"]:
        console.print(_account_table(found["accounts"]))
    routes = Table("from", "number", "to", title="Routes", title_justify="left")
    for route in found["routes"]:
        to = f"{route['identity']} of {route['to']}" if "identity" in route else route["to"]
        routes.add_row(*(escape(text) for text in (route["from"], route["number"], to)))
    console.print(routes)
    for note in all_notes(config):
        console.print(f"[yellow]note[/] {escape(note)}")


def _print_kept(console: Console, found: dict[str, Any]) -> None:
    """Where recordings, records and the audit log go, under which keys, and who may read them."""
    kept, keys = found["kept"], found["keys"]
    console.print(f"recordings {escape(kept['recordings'])}, by way of {escape(kept['spool'])}")
    console.print(f"call records {escape(kept['database'])}, by way of {escape(kept['queue'])}")
    anchors = escape(", ".join(kept["anchors"])) or "nowhere"
    console.print(f"audit log {escape(kept['audit'])}, anchored {anchors}")
    if keys["problem"]:
        console.print(f"[yellow]keys {escape(keys['problem'])}; nothing is recorded without[/]")
    else:
        console.print(f"keys {escape(keys['directory'])}, each can be used")
    known = escape(", ".join(found["staff_keys"])) or "nobody (access.keys is empty)"
    console.print(f"staff by tokens of {known}")


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
