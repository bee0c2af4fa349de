"""`relay boundary`: whether a host lies inside, and the same boundary for the kernel."""

from __future__ import annotations

import ipaddress
import re
import socket
from enum import Enum
from typing import Annotated

import typer

from relay.archive import Archive
from relay.commands.shared import (
    FAILED,
    MISTAKEN,
    ConfigOption,
    JsonOption,
    failing,
    loaded,
    print_json,
    stderr,
)
from relay.residency import firewall
from relay.residency.boundary import Boundary

app = typer.Typer(
    name="boundary",
    help="What lies inside the region: asked by hand, and told to the kernel.",
    epilog="Examples:  relay boundary check -c region.toml pbx.example.com  ·  "
    "relay boundary firewall -c region.toml --user relay | nft -f -\n\n"
    "Exit codes:  0 done  ·  1 failed, or outside  ·  2 a mistake in the input",
    no_args_is_help=True,
)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}")


class Format(Enum):
    """What reads it."""

    NFTABLES = "nftables"
    SYSTEMD = "systemd"


@app.command(epilog="Examples:  relay boundary check -c region.toml 192.0.2.7 pbx.example.com")
@failing()
def check(
    hosts: Annotated[list[str], typer.Argument(metavar="HOST…", help="Addresses or names.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of each host whether it lies inside the region.

    Names are looked up as this system does; each address must lie inside.

    Exit code 0: all do; 1: one does not.
    """
    boundary = Archive(loaded(config)).boundary
    found = {host: _addresses(host) for host in hosts}
    inside = {host: _holds(boundary, addresses) for host, addresses in found.items()}
    if as_json:
        print_json(
            ok=all(inside.values()),
            hosts=[{"host": h, "addresses": found[h], "inside": inside[h]} for h in hosts],
        )
    for host in () if as_json else hosts:
        told = ", ".join(found[host]) or "no address"
        verdict = "inside" if inside[host] else "OUTSIDE"
        typer.echo(f"{verdict:8} {host}" + (f" ({told})" if told != host else ""))
    if not all(inside.values()):
        raise typer.Exit(FAILED)


@app.command(
    name="firewall",
    epilog="Examples:  relay boundary firewall -c region.toml --user relay | nft -f -  ·  "
    "relay boundary firewall -c region.toml --format systemd "
    "> /etc/systemd/system/relay.service.d/boundary.conf",
)
@failing()
def print_firewall(
    config: ConfigOption = None,
    user: Annotated[
        str, typer.Option("--user", help="Who the node runs as: a name, or a number.")
    ] = "relay",
    whole_host: Annotated[
        bool,
        typer.Option("--whole-host", help="All that this machine sends and takes, ssh too."),
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="What is to read it.")] = Format.NFTABLES,
) -> None:
    """Print the boundary as rules for the kernel: a second lock, outside of the process.

    Only the region's networks, and this machine itself, may be reached and may reach the node.
    """
    if not _USER.fullmatch(user):
        stderr().print(f"--user {user!r} is no name of a user", markup=False)
        raise typer.Exit(MISTAKEN)
    manifest = Archive(loaded(config)).manifest
    if form is Format.SYSTEMD:
        typer.echo(firewall.systemd(manifest), nl=False)
    else:
        typer.echo(firewall.nftables(manifest, None if whole_host else user), nl=False)


def _holds(boundary: Boundary, addresses: list[str]) -> bool:
    return bool(addresses) and all(map(boundary.holds, addresses))


def _addresses(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
